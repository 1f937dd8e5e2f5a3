//! The queueing discipline, or none, and the program that a frame passes before it leaves by a link (`tc(8)`).

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcHeader, TcMessage,
    TcOption,
};
use nix::libc;

use super::netlink::requests::Request;
use super::netlink::{Netlink, Refusal};

/// `linux/rtnetlink.h`.
const TCA_EGRESS_BLOCK: u16 = 14;
/// The discipline that holds programs and queues nothing.
const HOLDER: &str = "clsact";
const HOLDER_HANDLE: TcHandle = TcHandle {
    major: u16::MAX,
    minor: 0,
};

impl Netlink {
    /// Takes its queueing discipline from the link with that index, which must be down still: else the kernel waits for
    /// whoever uses it (`synchronize_net()`). Frames go straight to the driver then.
    ///
    /// # Errors
    /// When the kernel refuses, as one without traffic control does.
    pub(super) fn remove_discipline(&mut self, index: u32) -> Result<(), Refusal> {
        self.request(vec![no_discipline(index)], |_| ())
    }

    /// Makes the filters in `block` judge the frames that leave by the link with that index. A block is made with its first
    /// link and goes with its last. The link must be down still, as for [`Netlink::remove_discipline`].
    ///
    /// # Errors
    /// When the kernel refuses, as one without `clsact` (`CONFIG_NET_SCH_INGRESS`) does, or because the link has one.
    pub(super) fn join_block(&mut self, index: u32, block: u32) -> Result<(), Refusal> {
        self.request(vec![in_block(index, block)], |_| ())
    }

    /// Undoes [`Netlink::join_block`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn leave_block(&mut self, index: u32) -> Result<(), Refusal> {
        let mut message = of_link(index, TcHandle::CLSACT);
        message.header.handle = HOLDER_HANDLE;
        let request = RouteNetlinkMessage::DelQueueDiscipline(message);
        self.request(vec![(request, 0)], |_| ())
    }

    /// Puts `program` into `block`, which has a link: it says of each frame whether it passes (`tc-bpf(8)`, direct
    /// action).
    ///
    /// # Errors
    /// When the kernel refuses, as one without `CONFIG_NET_CLS_BPF` does, or because there is a program.
    pub(super) fn fill_block(
        &mut self,
        block: u32,
        program: BorrowedFd<'_>,
    ) -> Result<(), Refusal> {
        let mut message = of_program(block);
        let descriptor = program.as_raw_fd().cast_unsigned();
        let options = [
            TcFilterBpfOption::ProgFd(descriptor),
            TcFilterBpfOption::ProgName(env!("CARGO_PKG_NAME").to_owned()),
            TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
        ];
        message.attributes = vec![
            TcAttribute::Kind(TcFilterBpf::KIND.to_owned()),
            TcAttribute::Options(options.map(TcOption::Bpf).to_vec()),
        ];
        let request = RouteNetlinkMessage::NewTrafficFilter(message);
        self.request(vec![(request, NLM_F_CREATE | NLM_F_EXCL)], |_| ())
    }

    /// Undoes [`Netlink::fill_block`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn empty_block(&mut self, block: u32) -> Result<(), Refusal> {
        let mut message = of_program(block);
        message.attributes = vec![TcAttribute::Kind(TcFilterBpf::KIND.to_owned())];
        let request = RouteNetlinkMessage::DelTrafficFilter(message);
        self.request(vec![(request, 0)], |_| ())
    }
}

/// The request of [`Netlink::remove_discipline`].
pub(super) fn no_discipline(index: u32) -> Request {
    let mut message = of_link(index, TcHandle::ROOT);
    message.attributes = vec![TcAttribute::Kind("noqueue".to_owned())];
    let request = RouteNetlinkMessage::NewQueueDiscipline(message);
    (request, NLM_F_CREATE | NLM_F_REPLACE)
}

/// The request of [`Netlink::join_block`].
pub(super) fn in_block(index: u32, block: u32) -> Request {
    let mut message = of_link(index, TcHandle::CLSACT);
    message.header.handle = HOLDER_HANDLE;
    message.attributes = vec![
        TcAttribute::Kind(HOLDER.to_owned()),
        TcAttribute::Other(DefaultNla::new(
            TCA_EGRESS_BLOCK,
            block.to_ne_bytes().to_vec(),
        )),
    ];
    let request = RouteNetlinkMessage::NewQueueDiscipline(message);
    (request, NLM_F_CREATE | NLM_F_EXCL)
}

/// A message about the program in `block`: the only one, of priority 1, for every protocol.
fn of_program(block: u32) -> TcMessage {
    let mut message = of_link(TcHeader::TCM_IFINDEX_MAGIC_BLOCK, TcHandle::from(block));
    message.header.handle = TcHandle::from(1);
    message.header.info = 1 << 16 | u32::from((libc::ETH_P_ALL as u16).to_be());
    message
}

/// A message about what hangs in the place `parent` of the link with that index.
fn of_link(index: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = parent;
    message
}
