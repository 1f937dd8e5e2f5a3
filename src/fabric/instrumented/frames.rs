//! The way of frames through the edge and past the instruments.

use std::io;
use std::time::Duration;

use super::super::impair::Impair;
use super::super::misbehave::Misbehave;
use super::super::{
    Direction, EndedRelocation, Environment, Fabric, FdbEvent, FrameDrops, Impaired, LinkEvent,
    Observed, PathKey, PathStamps, PathState, Place, PortCounters, Read, Relocated,
    RelocationError, RouteEvent, Write,
};
use super::Instrumented;
use crate::time::{Instant, Now, earliest};
use crate::vm::{RxFilter, VmId};
use crate::wire::MacAddr;

impl<F: Fabric> Instrumented<F> {
    /// Sends an announcement of a move, which is not taken for the first frame of its VM. When it was written, and what bridges
    /// have learned from it, is among what is [seen](Instrumented::sightings) and [heard](Fabric::fdb_events), also if that is
    /// later.
    pub fn write_announcement(&mut self, now: Instant, vm: VmId, frame: &[u8]) -> Write {
        if let Some(moved) = &mut self.moved {
            moved.announces(vm, frame);
        }
        self.write_watched(now, vm, frame)
    }

    #[cold]
    fn read_watched(&mut self, mut now: impl Now, vm: VmId, buffer: &mut [u8]) -> Read {
        let path = self.path.as_ref();
        let read_called = path.map(|path| path.reads(&self.fabric));
        let impair = self
            .edge
            .as_deref_mut()
            .and_then(|edge| edge.impair.as_mut());
        let (read, impaired) = match impair {
            Some(impair) => impair.read(&mut self.fabric, &mut now, vm, buffer),
            None => (self.fabric.read(&mut now, vm, buffer), Impaired::default()),
        };
        if let (Some(path), Some(called), Read::Frame(length)) = (&mut self.path, read_called, read)
        {
            let frame = buffer.get(..length).unwrap_or_default();
            path.read(&mut self.fabric, &mut now, called, frame);
        }
        let shown = match read {
            Read::Frame(length) => Some(length),
            Read::Consumed(length) if impaired.is_dropped() => Some(length),
            _ => None,
        };
        if let Some(length) = shown
            && !self.instruments.is_empty()
        {
            let observed = Observed {
                vm,
                direction: Direction::In,
                frame: buffer.get(..length).unwrap_or_default(),
                impaired,
                refused: None,
            };
            let now = now.now();
            self.each(|instrument| instrument.frame(now, &observed));
        }
        let read = match read {
            Read::Frame(length) if self.misbehave().is_some_and(Misbehave::goes_on) => {
                self.receive_misbehaving(now.now(), (vm, length), buffer)
            }
            _ => read,
        };
        if let (Some(moved), Read::Frame(length)) = (&mut self.moved, read) {
            moved.received(now.now(), vm, buffer.get(..length).unwrap_or_default());
        }
        // It may have been the last frame that there was to see, or was held.
        self.set_watched();
        read
    }

    /// Has `vm` do with the frame in `buffer` what its misbehaviour makes of it, if it misbehaves.
    fn receive_misbehaving(
        &mut self,
        now: Instant,
        (vm, length): (VmId, usize),
        buffer: &[u8],
    ) -> Read {
        let Some(mut edge) = self.edge.take() else {
            return Read::Frame(length);
        };
        let mut read = Read::Frame(length);
        let mut is_refused = false;
        if let Some(misbehave) = &mut edge.misbehave {
            let frame = buffer.get(..length).unwrap_or_default();
            let (is_taken, answer) = misbehave.receives(now, vm, frame);
            if !is_taken {
                read = Read::Consumed(length);
            }
            if let Some(answer) = answer {
                let written = self.write_shown(edge.impair.as_mut(), now, vm, answer);
                is_refused = written != Write::Sent;
            }
            if is_refused {
                misbehave.refused(vm);
            }
        }
        self.edge = Some(edge);
        read
    }

    #[cold]
    fn write_watched(&mut self, mut now: impl Now, vm: VmId, frame: &[u8]) -> Write {
        let mut edge = self.edge.take();
        let (misbehave, impair) = match edge.as_deref_mut() {
            Some(edge) => (edge.misbehave.as_mut(), edge.impair.as_mut()),
            None => (None, None),
        };
        let sent = match misbehave {
            Some(misbehave) => misbehave.sends(&mut now, vm, frame),
            None => Some(frame),
        };
        if let (Some(moved), Some(made)) = (&mut self.moved, sent)
            && moved.is_announcement(vm, frame)
        {
            moved.announces(vm, made);
        }
        let written = match sent {
            Some(frame) => self.write_shown(impair, now, vm, frame),
            // As the VM sees it, it is.
            None => Write::Sent,
        };
        self.edge = edge;
        // It may have been the last frame that there was to see.
        self.set_watched();
        written
    }

    /// Writes a frame, or what impairments make of it, and shows it to the instruments.
    pub(super) fn write_shown(
        &mut self,
        impair: Option<&mut Impair>,
        mut now: impl Now,
        vm: VmId,
        frame: &[u8],
    ) -> Write {
        let path = self.path.as_mut();
        let writing = path.and_then(|path| path.writes(&self.fabric, &mut now, frame));
        let (mut written, mut impaired) = (None, Impaired::default());
        let at = self.moved.as_ref().map(|_| now.now());
        let write = |fabric: &mut F| {
            (written, impaired) = match impair {
                Some(impair) => impair.write(fabric, &mut now, vm, frame),
                None => (Some(fabric.write(&mut now, vm, frame)), impaired),
            };
            written == Some(Write::Sent)
        };
        match (&mut self.moved, at) {
            (Some(moved), Some(at)) => moved.writing(&mut self.fabric, at, (vm, frame), write),
            _ => _ = write(&mut self.fabric),
        }
        // As the VM sees it, what is held or lost is sent.
        let written = written.unwrap_or(Write::Sent);
        if let (Some(path), Some(writing)) = (&mut self.path, writing) {
            path.wrote(&self.fabric, writing);
        }
        if !self.instruments.is_empty() {
            let observed = Observed {
                vm,
                direction: Direction::Out,
                frame,
                impaired,
                refused: match written {
                    Write::Dropped(reason) => Some(reason),
                    _ => None,
                },
            };
            let now = now.now();
            self.each(|instrument| instrument.frame(now, &observed));
        }
        written
    }
}

impl<F: Fabric> Fabric for Instrumented<F> {
    type Error = F::Error;

    #[inline]
    fn read(&mut self, now: impl Now, vm: VmId, buffer: &mut [u8]) -> Read {
        match self.is_watched {
            true => self.read_watched(now, vm, buffer),
            false => self.fabric.read(now, vm, buffer),
        }
    }

    #[inline]
    fn write(&mut self, now: impl Now, vm: VmId, frame: &[u8]) -> Write {
        match self.is_watched {
            true => self.write_watched(now, vm, frame),
            false => self.fabric.write(now, vm, frame),
        }
    }

    fn plug(&mut self, vm: VmId, rx_filter: &RxFilter) -> Result<(), F::Error> {
        self.each(|instrument| instrument.rx_filter(vm, rx_filter));
        self.fabric.plug(vm, &self.opened(rx_filter))
    }

    fn plug_all(&mut self, vms: &[(VmId, &RxFilter)]) -> Result<(), F::Error> {
        for (vm, rx_filter) in vms {
            self.each(|instrument| instrument.rx_filter(*vm, rx_filter));
        }
        if !self.are_filters_open {
            return self.fabric.plug_all(vms);
        }
        let opened = vms.iter().map(|(vm, filter)| (*vm, self.opened(filter)));
        let opened: Vec<_> = opened.collect();
        let vms = opened.iter().map(|(vm, filter)| (*vm, filter.as_ref()));
        self.fabric.plug_all(&vms.collect::<Vec<_>>())
    }

    fn set_rx_filter(&mut self, vm: VmId, rx_filter: &RxFilter) -> Result<(), F::Error> {
        self.each(|instrument| instrument.rx_filter(vm, rx_filter));
        let opened = self.opened(rx_filter);
        let widened = self.misbehave().and_then(|all| all.widen(vm, &opened));
        self.fabric
            .set_rx_filter(vm, widened.as_ref().unwrap_or(&opened))
    }

    fn set_link(&mut self, vm: VmId, up: bool) -> Result<(), F::Error> {
        self.fabric.set_link(vm, up)
    }

    fn shared_with(&self) -> Option<String> {
        self.fabric.shared_with()
    }

    fn unplug(&mut self, vms: &[VmId]) -> Result<(), F::Error> {
        if let Some(moved) = &mut self.moved {
            vms.iter().for_each(|vm| moved.stop(*vm));
            self.set_watched();
        }
        self.fabric.unplug(vms)
    }

    fn set_polled(&mut self, vm: VmId, polled: bool) -> io::Result<()> {
        self.fabric.set_polled(vm, polled)
    }

    fn watch_links(&mut self) -> bool {
        self.fabric.watch_links()
    }

    fn link_events(&mut self) -> Vec<LinkEvent> {
        self.fabric.link_events()
    }

    fn watch_routes(&mut self) {
        self.fabric.watch_routes();
    }

    fn route_events(&mut self) -> Vec<RouteEvent> {
        self.fabric.route_events()
    }

    fn prepare_place(&mut self, vm: VmId, to: &Place) -> Result<(), RelocationError<F::Error>> {
        self.fabric.prepare_place(vm, to)
    }

    fn relocate(
        &mut self,
        now: Instant,
        vm: VmId,
        to: &Place,
        rx_filter: &RxFilter,
        outage: Duration,
    ) -> Result<Relocated, RelocationError<F::Error>> {
        let opened = self.opened(rx_filter);
        let relocated = self.fabric.relocate(now, vm, to, &opened, outage)?;
        if self.edge.is_some() && relocated.ready.is_some() {
            self.misbehave_moved(vm, Some(&opened));
        }
        Ok(relocated)
    }

    fn ended_relocations(&mut self, waits: bool) -> Vec<EndedRelocation<F::Error>> {
        let ended = self.fabric.ended_relocations(waits);
        if self.edge.is_some() {
            let made = ended.iter().filter(|(_, outcome)| outcome.is_ok());
            made.for_each(|(vm, _)| self.misbehave_moved(*vm, None));
        }
        ended
    }

    fn fdb_events(&mut self, now: Instant) -> Vec<FdbEvent> {
        let moved = self.moved.as_mut();
        let mut heard = moved.map_or_else(Vec::new, |moved| moved.take_heard());
        heard.extend(self.fabric.fdb_events(now));
        heard
    }

    fn time_after(&self, now: Instant) -> Instant {
        self.fabric.time_after(now)
    }

    fn watch_drops(&mut self) -> Result<bool, F::Error> {
        self.fabric.watch_drops()
    }

    fn frame_drops(&mut self) -> FrameDrops {
        self.fabric.frame_drops()
    }

    fn stamp_path(&mut self, stamps: bool) -> Result<(), F::Error> {
        self.fabric.stamp_path(stamps)
    }

    fn path_stamps(&mut self, ping: PathKey) -> [Option<PathStamps>; 2] {
        self.fabric.path_stamps(ping)
    }

    fn has_filter(&self) -> bool {
        self.fabric.has_filter()
    }

    fn port_counters(&mut self) -> Result<Vec<(VmId, PortCounters)>, F::Error> {
        self.fabric.port_counters()
    }

    fn path_state(
        &mut self,
        source: VmId,
        destination: MacAddr,
        owner: Option<VmId>,
    ) -> Result<Option<PathState>, F::Error> {
        self.fabric.path_state(source, destination, owner)
    }

    #[inline]
    fn next_at(&self) -> Option<Instant> {
        let next = self.fabric.next_at();
        match &self.edge {
            Some(edge) => earliest(next, edge.next_at()),
            None => next,
        }
    }

    fn next_receiver(&mut self, now: Instant) -> Option<VmId> {
        self.fabric.next_receiver(now)
    }

    fn drops(&mut self) -> Result<u64, F::Error> {
        self.fabric.drops()
    }

    fn environment(&self) -> Environment {
        self.fabric.environment()
    }

    fn warnings(&self) -> &[F::Error] {
        self.fabric.warnings()
    }

    fn forwards_after(&self) -> Duration {
        self.fabric.forwards_after()
    }

    fn outlives_process(&self) -> bool {
        self.fabric.outlives_process()
    }

    fn close(&mut self) -> Result<(), F::Error> {
        self.fabric.close()
    }
}
