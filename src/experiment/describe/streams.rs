//! The streams of a plan as text.

use std::fmt::{self, Write};

use super::{counted, list, sending, time, uncounted};
use crate::experiment::{Expected, Experiment, IpVersion, StreamPlan};
use crate::hypervisor::Phase;

/// Describes the streams of the phase of that name, those of each schedule together. Returns how many frames are due.
pub(super) fn lines(
    out: &mut String,
    experiment: &Experiment,
    phase: &Phase,
    name: &str,
) -> Result<Expected, fmt::Error> {
    let mut all = Expected {
        pings: Some(0),
        is_exact: true,
    };
    for load in &phase.streams {
        let expected = Expected::of(load, phase.duration);
        all.add(expected);
        let frames = match expected.pings {
            None => "frames without end".to_owned(),
            Some(frames) if !expected.is_exact => {
                format!("about {}", counted(frames, "frame", "frames"))
            }
            Some(frames) => counted(frames, "frame", "frames"),
        };
        let number = load.flows.len();
        writeln!(
            out,
            "{name}: {}, {}, {}{frames}{}",
            counted(number as u64, "stream", "streams"),
            sending(load, "frame"),
            time(phase),
            uncounted(phase)
        )?;
        let streams = load.flows.iter();
        let streams = streams.filter_map(|id| experiment.streams.get(id.index()));
        list(out, streams, number, "streams", line)?;
    }
    Ok(all)
}

fn line(out: &mut String, stream: &StreamPlan) -> fmt::Result {
    write!(out, "  {} → ", stream.source)?;
    match stream.name {
        Some(name) => out.write_str(name)?,
        None => write!(out, "{}", stream.target)?,
    }
    let over = match stream.version {
        IpVersion::V4 => "",
        IpVersion::V6 => " over IPv6",
    };
    writeln!(out, "{over}, {} bytes", stream.sizes)
}

/// So many frames, beside pings.
pub(super) fn frames_of(number: u64) -> String {
    counted(number, "frame of streams", "frames of streams")
}
