//! Frames to typed views and back. Pure: bytes in, values out.

mod mac;

pub use mac::{MacAddr, ParseMacError};
