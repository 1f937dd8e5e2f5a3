//! The TCP connections that pings have opened, as a report tells them.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Report;
use super::build::per_second;
use super::compare::{Difference, Quantity};
use super::units::{count, counted, rate};
use crate::record::Connections;

/// TCP connections that pings have opened, in the phases that count.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionReport {
    /// Those that were opened: SYNs that a SYN has answered in time.
    pub opened: u64,
    /// The same per second of `elapsed_ns`.
    pub opened_per_s: f64,
    /// The most that were open at once, between all VMs and their peers; of several ranks at most so many, the sum of what each has
    /// found.
    pub open_at_once: u64,
    /// Those that their peers have closed or reset while they were held (`--tcp-hold`).
    pub ended_by_peer: u64,
    /// SYNs that were repeated, because nothing had answered them (RFC 6298).
    pub syns_repeated: u64,
}

impl ConnectionReport {
    /// What was recorded of a run or a phase, in so many nanoseconds. `None` of one that opens no connections.
    pub(super) fn of(recorded: Option<&Connections>, elapsed_ns: u64) -> Option<ConnectionReport> {
        let Connections {
            counts,
            open_at_once,
            ..
        } = *recorded?;
        Some(ConnectionReport {
            opened: counts.opened,
            opened_per_s: per_second(counts.opened, elapsed_ns),
            open_at_once,
            ended_by_peer: counts.ended_by_peer,
            syns_repeated: counts.syns_repeated,
        })
    }
}

impl ConnectionReport {
    /// What several ranks have told that ran at the same time, for so many nanoseconds. `None` if none opens connections.
    pub(super) fn of_ranks(
        each: impl Iterator<Item = ConnectionReport>,
        elapsed_ns: u64,
    ) -> Option<ConnectionReport> {
        let mut all = each.reduce(|one, other| ConnectionReport {
            opened: one.opened.saturating_add(other.opened),
            open_at_once: one.open_at_once.saturating_add(other.open_at_once),
            ended_by_peer: one.ended_by_peer.saturating_add(other.ended_by_peer),
            syns_repeated: one.syns_repeated.saturating_add(other.syns_repeated),
            ..one
        })?;
        all.opened_per_s = per_second(all.opened, elapsed_ns);
        Some(all)
    }
}

impl Report {
    /// Takes in the connections of another run, made after this one. Their number in a second [follows](Report::count_connections).
    pub(super) fn merge_connections(&mut self, other: &Report) {
        let Some(other) = other.connections else {
            return;
        };
        let own = self.connections.get_or_insert_default();
        own.opened = own.opened.saturating_add(other.opened);
        own.open_at_once = own.open_at_once.max(other.open_at_once);
        own.ended_by_peer = own.ended_by_peer.saturating_add(other.ended_by_peer);
        own.syns_repeated = own.syns_repeated.saturating_add(other.syns_repeated);
    }

    /// Sets the number of connections in a second by that of all and the time that they took.
    pub(super) fn count_connections(&mut self) {
        if let Some(connections) = &mut self.connections {
            connections.opened_per_s = per_second(connections.opened, self.elapsed_ns);
        }
    }
}

/// Writes the paragraph about connections, if there are any.
pub(super) fn text(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Some(connections) = &report.connections else {
        return Ok(());
    };
    writeln!(out)?;
    writeln!(out, "{}", sentence(connections))
}

/// The connections in a sentence.
pub(super) fn sentence(connections: &ConnectionReport) -> String {
    let ConnectionReport {
        opened,
        opened_per_s,
        open_at_once,
        ended_by_peer,
        syns_repeated,
    } = *connections;
    let opened = counted(opened, "TCP connection");
    let mut sentence = format!("{opened} opened ({})", rate(opened_per_s));
    // None is where a reset takes the place of the handshake's last segment.
    if open_at_once > 0 {
        sentence += &format!(", at most {} open at once", count(open_at_once));
    }
    if ended_by_peer > 0 {
        sentence += &format!("; {} ended by their peers", count(ended_by_peer));
    }
    if syns_repeated > 0 {
        sentence += &format!("; {} repeated", counted(syns_repeated, "SYN"));
    }
    sentence
}

/// A figure of connections: its name in comparisons and expectations, what it is a number of, and its value.
type Figure = (&'static str, Quantity, fn(&ConnectionReport) -> f64);

impl ConnectionReport {
    /// The name of the figure that is a number per second.
    pub(super) const RATE: &'static str = "rate";

    /// The figures.
    const FIGURES: [Figure; 5] = [
        ("opened", Quantity::Connections, |of| of.opened as f64),
        (Self::RATE, Quantity::PerSecond, |of| of.opened_per_s),
        ("open_at_once", Quantity::Connections, |of| {
            of.open_at_once as f64
        }),
        ("ended_by_peer", Quantity::Connections, |of| {
            of.ended_by_peer as f64
        }),
        ("syns_repeated", Quantity::Segments, |of| {
            of.syns_repeated as f64
        }),
    ];

    /// The names of the figures.
    pub(super) fn figures() -> impl Iterator<Item = &'static str> {
        Self::FIGURES.into_iter().map(|(name, ..)| name)
    }

    /// The figure of that name.
    pub(super) fn figure(&self, name: &str) -> Option<f64> {
        let (.., of) = Self::FIGURES.into_iter().find(|(of, ..)| *of == name)?;
        Some(of(self))
    }
}

/// The figures of connections, if one of the runs has opened any. How much they vary is not known.
pub(super) fn differences(before: &Report, after: &Report) -> Vec<Difference> {
    let both = [before, after].map(|run| run.connections);
    if both == [None, None] {
        return Vec::new();
    }
    ConnectionReport::FIGURES
        .into_iter()
        .map(|(name, quantity, of)| {
            let values = both.map(|of_run| of_run.as_ref().map(of));
            Difference::new(format!("connections.{name}"), quantity, values, None)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{compare, fixtures, merge};

    #[test]
    fn runs_add_up_and_their_rate_is_that_of_the_whole_time() {
        let one = fixtures::whole();
        let mut other = fixtures::whole();
        other.elapsed_ns *= 3;
        let without = fixtures::report();
        let of = one.connections.unwrap();
        let merged = merge(&[one.clone(), other.clone()]).unwrap();
        let expected = ConnectionReport {
            opened: 2 * of.opened,
            opened_per_s: per_second(2 * of.opened, 4 * one.elapsed_ns),
            open_at_once: of.open_at_once,
            ended_by_peer: 2 * of.ended_by_peer,
            syns_repeated: 2 * of.syns_repeated,
        };
        assert_eq!(merged.connections, Some(expected));
        let merged = merge(&[without.clone(), one.clone()]).unwrap();
        assert_eq!(merged.connections.unwrap().opened, of.opened);
        let merged = merge(&[without.clone(), without]).unwrap();
        assert_eq!(merged.connections, None);
    }

    #[test]
    fn a_comparison_has_their_figures_if_one_of_the_runs_has_some() {
        let (with, without) = (fixtures::whole(), fixtures::report());
        let names = |one: &Report, other: &Report| -> Vec<(String, Option<f64>, Option<f64>)> {
            let compared = compare(&[("one", one), ("other", other)]);
            let all = compared.into_iter().flat_map(|each| each.differences);
            all.filter(|of| of.figure.starts_with("connections."))
                .map(|of| (of.figure, of.before, of.after))
                .collect()
        };
        assert_eq!(names(&without, &without), []);
        let found = names(&without, &with);
        let at_once = ("connections.open_at_once".to_owned(), None, Some(30.0));
        assert!(found.len() == 5 && found.contains(&at_once), "{found:?}");
    }

    #[test]
    fn the_sentence_tells_what_there_is_to_tell() {
        let of = fixtures::whole().connections.unwrap();
        assert_eq!(
            sentence(&of),
            "90 TCP connections opened (45.0/s), at most 30 open at once; 2 ended by their peers; 4 SYNs repeated"
        );
        let plain = ConnectionReport {
            opened: 1,
            ended_by_peer: 0,
            syns_repeated: 0,
            ..of
        };
        assert_eq!(
            sentence(&plain),
            "1 TCP connection opened (45.0/s), at most 30 open at once"
        );
    }
}
