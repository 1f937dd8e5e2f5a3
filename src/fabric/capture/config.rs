//! What is captured: the options of a capture.

use super::super::{InstrumentConfig, OptionError, WriteTo};
use crate::load::Selection;
use crate::number::whole_number;
use crate::vm::VmId;

/// The smallest file that a capture is limited to: its head, and a frame of the largest size.
const SMALLEST_LIMIT: u64 = 100_000;
/// The most files of a ring.
const MAX_FILES: u32 = 10_000;
/// The most bytes that are kept of a frame, which is more than any frame has.
const MAX_SNAP: u32 = 262_144;
/// The most frames before and after a failed ping.
const MAX_AROUND: u32 = 1_000_000;

/// What is captured, and where to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptureConfig {
    /// The name of the file.
    pub file: String,
    /// Each frame has a comment.
    pub has_comments: bool,
    /// Bytes that are kept of each frame at most.
    pub snap: Option<u32>,
    /// The first and the last of the VMs whose frames are captured; `None` for all.
    pub vms: Option<(VmId, VmId)>,
    /// The end of the file.
    pub limit: Option<CaptureLimit>,
    /// Only so many frames before and after each failed ping.
    pub around_loss: Option<u32>,
}

/// The size of a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CaptureLimit {
    /// Bytes of a file at most.
    pub bytes: u64,
    /// Files, of which the last ones are kept. With one, the capture ends when it is full.
    pub files: u32,
}

impl CaptureConfig {
    /// Reads the options of a capture.
    ///
    /// # Errors
    /// With the first of them that can't be.
    pub(super) fn read(config: &InstrumentConfig) -> Result<CaptureConfig, OptionError> {
        let limit = config.option("capture-limit").map(|text| {
            let limit = limit(text)?;
            match config.to() {
                WriteTo::File(_) => Ok(limit),
                _ if limit.files == 1 => Ok(limit),
                _ => Err(
                    "standard output is one file; expected a size alone, such as 100M".to_owned(),
                ),
            }
        });
        let limit = limit.transpose().map_err(|why| OptionError {
            option: "capture-limit",
            why,
        })?;
        let vms = config.option("capture-vms").map(|text| {
            let expected = "expected vmI, vm[I-J] or all";
            text.parse().map_err(|_| OptionError {
                option: "capture-vms",
                why: expected.to_owned(),
            })
        });
        Ok(CaptureConfig {
            file: config.to().to_string(),
            has_comments: config.option("capture-comments") != Some("off"),
            snap: config.number("capture-snap", 14..=MAX_SNAP)?,
            vms: match vms.transpose()? {
                Some(Selection::Range(first, last)) => Some((VmId(first), VmId(last))),
                Some(Selection::All) | None => None,
            },
            limit,
            around_loss: config.number("capture-on-loss", 0..=MAX_AROUND)?,
        })
    }

    /// Returns true if the frames of `vm` are captured.
    pub fn captures(&self, vm: VmId) -> bool {
        self.vms
            .is_none_or(|(first, last)| first <= vm && vm <= last)
    }
}

/// The limit `100M`, or `100M*5` for the last five files of that size.
fn limit(text: &str) -> Result<CaptureLimit, String> {
    let (size, files) = match text.split_once('*') {
        Some((size, files)) => (size, files.trim()),
        None => (text, "1"),
    };
    let bytes = whole_number(size.trim()).filter(|bytes| *bytes >= SMALLEST_LIMIT);
    let files = files
        .parse()
        .ok()
        .filter(|files| (1..=MAX_FILES).contains(files));
    bytes
        .zip(files)
        .map(|(bytes, files)| CaptureLimit { bytes, files })
        .ok_or_else(|| {
            format!(
                "expected a size of {SMALLEST_LIMIT} bytes or more, such as 100M, or 100M*5 for the last 5 files of that size"
            )
        })
}
