//! Datagrams that are larger than the link carries: cut on their way out, and put together where they arrive.

mod fragmenter;
mod reassembly;

pub(super) use self::fragmenter::Fragmenter;
pub use self::fragmenter::MAX_OUTGOING;
pub(super) use self::reassembly::{Datagram, Fragment, FragmentKey, Reassembly, Taken};
pub use self::reassembly::{MAX_REASSEMBLIES, MAX_REASSEMBLY_BYTES};
