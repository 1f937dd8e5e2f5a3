//! What a VM sends and takes of streams: datagrams one way, which nobody answers. It keeps nothing of a frame that it has sent.

use std::net::IpAddr;

use super::nic::group_mac;
use super::{Neighbour, PingOptions, Vm};
use crate::time::Instant;
use crate::wire::{
    MacAddr, StreamEnvelope, StreamFrame, StreamTag, StreamTemplate, put_on, tags_length,
};

/// The first of the ports that streams come from, none of which pings have; the others follow.
const FIRST_PORT: u16 = 61_000;
const PORTS: u32 = 4_000;

/// The settings of what one VM sends of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamConfig {
    /// The address that it goes to.
    pub destination: IpAddr,
    /// The hardware address that its frames go to; `None` for that of the neighbour, who is asked for it. One of nobody has a
    /// switch flood them.
    pub mac: Option<MacAddr>,
    /// The header fields of its datagrams.
    pub options: PingOptions,
}

/// A stream that a VM sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    config: StreamConfig,
    template: Option<StreamTemplate>,
}

/// A frame of a stream that a VM has read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamRead {
    /// The frame.
    pub frame: StreamFrame,
    /// It is for the VM: for its hardware address, its VLAN and its address, or for a group that it is in, or for all.
    pub is_for_it: bool,
}

/// A frame of a stream that a VM has built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamBuilt {
    /// Its length.
    pub length: usize,
    /// Where its payload begins, in which the time is to be stamped.
    pub payload: usize,
}

impl Vm {
    /// Opens a stream. Returns its place among those of the VM.
    pub fn open_stream(&mut self, config: StreamConfig) -> usize {
        let streams = &mut self.probes.get_or_insert_default().streams;
        streams.push(Stream {
            config,
            template: None,
        });
        streams.len() - 1
    }

    fn stream(&self, place: usize) -> Option<&Stream> {
        self.probes.as_ref()?.streams.get(place)
    }

    /// Sends the stream at that place to another address of the same IP version from now on.
    pub fn redirect_stream(&mut self, place: usize, destination: IpAddr) {
        if let Some(probes) = &mut self.probes
            && let Some(stream) = probes.streams.get_mut(place)
            && stream.config.destination.is_ipv4() == destination.is_ipv4()
        {
            stream.config.destination = destination;
            stream.template = None;
        }
    }

    /// Looks for the neighbour that the stream at that place is handed to.
    pub fn find_neighbour_of_stream(&mut self, now: Instant, place: usize) -> Neighbour {
        let Some(config) = self.stream(place).map(|stream| stream.config) else {
            return Neighbour::NoRoute;
        };
        match fixed_mac(&config) {
            Some(_) => Neighbour::Known,
            None => self.find_neighbour_at(now, config.destination),
        }
    }

    /// Builds the next frame of the stream at that place, of `length` bytes without VLAN tags and frame check sequence, in `buffer`.
    /// It is to be [stamped](crate::wire::stamp_stream) right before it is written. `None` when there is no way to the destination,
    /// or its neighbour is not known; it is asked for then.
    pub fn stream_frame(
        &mut self,
        now: Instant,
        place: usize,
        (tag, length): (StreamTag, usize),
        buffer: &mut [u8],
    ) -> Option<StreamBuilt> {
        let config = self.stream(place)?.config;
        let mac = match fixed_mac(&config) {
            Some(mac) => mac,
            None => {
                let next_hop = self.next_hop(now, config.destination)?;
                let timers = self.neighbours.deadline();
                let found = self.neighbours.reach(now, next_hop);
                // It is asked for, or to be asked again.
                self.is_dirty |= self.neighbours.deadline() != timers;
                found?
            }
        };
        let envelope = self.stream_envelope(now, &config, mac)?;
        let untagged = self.behind_tags(buffer);
        let probes = self.probes.as_mut()?;
        let stream = probes.streams.get_mut(place)?;
        let template = match &stream.template {
            Some(template) if *template.envelope() == envelope => template,
            _ => {
                let port = FIRST_PORT + (tag.stream % PORTS) as u16;
                let template = StreamTemplate::new(envelope, port)?;
                stream.template.insert(template)
            }
        };
        let payload = template.header_length();
        let length = template.write(tag, length, untagged)?;
        let tagged = put_on(self.vlan, buffer, length);
        Some(StreamBuilt {
            length: tagged,
            payload: payload + (tagged - length),
        })
    }

    /// The headers of a stream's frames. `None` while the VM has no address.
    fn stream_envelope(
        &self,
        now: Instant,
        config: &StreamConfig,
        mac: MacAddr,
    ) -> Option<StreamEnvelope> {
        let options = &config.options;
        Some(match config.destination {
            IpAddr::V4(to) => StreamEnvelope::V4(self.ipv4_envelope(options, to, mac, 0)?),
            IpAddr::V6(to) => StreamEnvelope::V6(self.ipv6_envelope(now, options, to, mac)?),
        })
    }

    /// Reads the frame, if it is one of a stream of `run`.
    #[inline]
    pub fn read_stream(&self, frame: &[u8], run: u32) -> Option<StreamRead> {
        let read = StreamFrame::parse(frame, run)?;
        let is_for_it = tags_length(self.vlan, frame) == Some(read.tags)
            && match read.destination {
                _ if read.destination_mac == self.mac => self.has_address(read.destination),
                // Everybody takes what is for all, whichever way that is written.
                _ if read.destination_mac == MacAddr::BROADCAST => true,
                destination => {
                    destination.is_multicast()
                        && read.destination_mac == group_mac(destination)
                        && self.is_in_group(destination)
                }
            };
        Some(StreamRead {
            frame: read,
            is_for_it,
        })
    }
}

/// The hardware address that frames go to without a question: that of a group, or one that was chosen.
fn fixed_mac(config: &StreamConfig) -> Option<MacAddr> {
    match config.destination.is_multicast() {
        true => Some(group_mac(config.destination)),
        false => config.mac,
    }
}
