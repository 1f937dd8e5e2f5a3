//! Changes of a run's links by others, for readers who would take its figures for those of a whole network.

use super::Report;
use super::units::{count, span};
use crate::escape::Escaped;
use crate::record::{LinkChanged, MAX_LINK_CHANGES};

/// One change, such as `tap1 (vm1) was set down after 1.2 s`.
pub(super) fn words(changed: &LinkChanged) -> String {
    let LinkChanged {
        at_ns,
        link,
        vm,
        change,
    } = changed;
    let vm = vm.as_ref();
    let vm = vm.map_or(String::new(), |vm| format!(" ({})", Escaped(vm)));
    format!("{}{vm} {change} after {}", Escaped(link), span(*at_ns))
}

/// How many changes there were beside those that are told, in words.
pub(super) fn untold(report: &Report) -> Option<String> {
    (report.links_untold > 0).then(|| format!("and {} more", count(report.links_untold)))
}

/// The addition to a verdict where others changed links.
pub(super) fn sentence(told: &[LinkChanged], untold: u64) -> Option<String> {
    let (first, others) = told.split_first()?;
    let more = match others.len() as u64 + untold {
        0 => String::new(),
        others => format!(", and {} more", count(others)),
    };
    Some(format!(
        " Others changed its links meanwhile: {}{more}.",
        words(first)
    ))
}

impl Report {
    /// Takes in what others did to the links of another run, told by the time of that.
    pub(super) fn merge_links(&mut self, other: &Report) {
        let room = MAX_LINK_CHANGES.saturating_sub(self.links.len());
        let taken = other.links.len().min(room);
        self.links.extend(other.links.iter().take(taken).cloned());
        let untaken = (other.links.len() - taken) as u64;
        self.links_untold = self
            .links_untold
            .saturating_add(other.links_untold)
            .saturating_add(untaken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::{LinkEvent, LinkFate};
    use crate::load::FlowId;
    use crate::record::{Limits, Recorder};
    use crate::report::{Context, html, merge, text};
    use crate::time::Instant;
    use crate::vm::VmId;

    /// A run in which one ping was answered and these many links were set down.
    fn report(changes: u32) -> Report {
        let mut recorder = Recorder::new(Limits::default());
        recorder.add_flow();
        let at = Instant::from_nanos;
        recorder.watch_links(at(500));
        recorder.echo_sent(FlowId(0), at(1000), at(1000), at(1000));
        recorder.answered(FlowId(0), 0, at(1000), at(1000), at(2000));
        for index in 0..changes {
            let event = LinkEvent {
                link: format!("tap{index}"),
                vm: Some(VmId(index)),
                change: LinkFate::Down,
            };
            recorder.link_changed(at(2_500_000_500), event);
        }
        Report::new(&recorder, &Context::default())
    }

    #[test]
    fn what_others_did_to_the_links_stands_in_every_report_and_in_the_verdict() {
        let (none, one, many) = (report(0), report(1), report(200));
        assert!(!none.verdict.sentence.contains("links"));
        let sentence = "Others changed its links meanwhile: tap0 (vm0) was set down after 2.50 s";
        let said = &one.verdict.sentence;
        assert!(said.ends_with(&format!(" {sentence}.")), "{said}");
        assert!(
            many.verdict
                .sentence
                .ends_with(&format!(" {sentence}, and 199 more."))
        );
        let of_all = merge(&[many.clone(), one.clone(), many.clone()]).unwrap();
        assert!(of_all.verdict.sentence.contains("and 400 more"));
        assert_eq!(of_all.links.len() as u64 + of_all.links_untold, 401);
        for (report, told) in [(&none, 0), (&one, 1), (&many, MAX_LINK_CHANGES)] {
            let (mut plain, mut page) = (Vec::new(), Vec::new());
            text(report, &mut plain, 80).unwrap();
            html(report, &mut page).unwrap();
            for written in [plain, page] {
                let written = String::from_utf8(written).unwrap();
                // Once more in the verdict.
                let times = told + usize::from(told > 0);
                assert_eq!(written.matches(" was set down after").count(), times);
                assert_eq!(written.contains("and 136 more"), told == MAX_LINK_CHANGES);
            }
            let json = serde_json::to_string(report).unwrap();
            assert_eq!(json.matches(r#""change":"down""#).count(), told);
            let read: Report = serde_json::from_str(&json).unwrap();
            assert_eq!(
                (&read.links, read.links_untold),
                (&report.links, report.links_untold)
            );
        }
    }
}
