//! Puts lengths and checksums right. Without that nearly every frame that a fuzzer makes would be turned away at the
//! first of them, and nothing behind it would ever run.

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let &[high, low] = bytes.get(at..at + 2)? else {
        return None;
    };
    Some(u16::from_be_bytes([high, low]))
}

/// The Internet checksum (RFC 1071) of `bytes` and of what `sum` was made of.
fn checksum(mut sum: u64, bytes: &[u8]) -> u16 {
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u64::from(low));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The sum of the pseudo header: the addresses, the protocol and the length.
fn pseudo(addresses: &[u8], protocol: u8, length: usize) -> u64 {
    u64::from(!checksum(u64::from(protocol) + length as u64, addresses))
}

/// Puts right what an untagged `frame` says of its own length and checksums, as far as it can be told where they are.
pub fn seal(frame: &mut [u8]) {
    match word(frame, 12) {
        Some(0x0800) => seal_ipv4(&mut frame[14..]),
        Some(0x86dd) => seal_ipv6(&mut frame[14..]),
        _ => {}
    }
}

fn seal_ipv4(packet: &mut [u8]) {
    if packet.len() < 20 {
        return;
    }
    let header = 4 * usize::from(packet[0] & 15);
    let length = usize::from(word(packet, 2).unwrap_or(0));
    if header < 20 || header > packet.len() {
        return;
    }
    let end = if (header..=packet.len()).contains(&length) {
        length
    } else {
        let whole = packet.len().min(0xffff);
        put(packet, 2, whole as u16);
        whole
    };
    put(packet, 10, 0);
    let sum = checksum(0, &packet[..header]);
    put(packet, 10, sum);
    let is_fragment = word(packet, 6).unwrap_or(0) & 0x3fff != 0;
    if is_fragment {
        return;
    }
    let protocol = packet[9];
    let pseudo = pseudo(&packet[12..20], protocol, end - header);
    seal_upper(protocol, pseudo, &mut packet[header..end]);
}

fn seal_ipv6(packet: &mut [u8]) {
    if packet.len() < 40 {
        return;
    }
    let length = usize::from(word(packet, 4).unwrap_or(0));
    let end = if 40 + length <= packet.len() {
        40 + length
    } else {
        let whole = (packet.len() - 40).min(0xffff);
        put(packet, 4, whole as u16);
        40 + whole
    };
    let mut next = packet[6];
    let mut at = 40;
    // Options, routing and destination headers; a fragment's checksum is that of the whole.
    while matches!(next, 0 | 43 | 60) && at + 8 <= end {
        next = packet[at];
        at += 8 * (1 + usize::from(packet[at + 1]));
    }
    if at < end {
        let pseudo = pseudo(&packet[8..40], next, end - at);
        seal_upper(next, pseudo, &mut packet[at..end]);
    }
}

fn seal_upper(protocol: u8, pseudo: u64, bytes: &mut [u8]) {
    let (at, start) = match protocol {
        1 => (2, 0),
        58 => (2, pseudo),
        17 => (6, pseudo),
        6 => (16, pseudo),
        _ => return,
    };
    if protocol == 17 {
        let length = bytes.len() as u16;
        put(bytes, 4, length);
    }
    put(bytes, at, 0);
    let sum = checksum(start, bytes);
    put(bytes, at, if sum == 0 { 0xffff } else { sum });
}

/// Where an untagged `frame` to that UDP port would have a DHCP transaction and the client's hardware address.
pub fn dhcp_transaction(frame: &mut [u8], port: u16) -> Option<(&mut [u8], &mut [u8])> {
    let is_udp = frame.get(23) == Some(&17) && word(frame, 12) == Some(0x0800);
    let is_to_port = frame.get(14) == Some(&0x45) && word(frame, 36) == Some(port);
    if !is_udp || !is_to_port {
        return None;
    }
    let (front, client) = frame.get_mut(46..76)?.split_at_mut(24);
    Some((&mut front[..4], client))
}

/// Where an untagged `frame` to that UDP port would have a DHCPv6 transaction.
pub fn dhcpv6_transaction(frame: &mut [u8], port: u16) -> Option<&mut [u8]> {
    let is_udp = frame.get(20) == Some(&17) && word(frame, 12) == Some(0x86dd);
    if !is_udp || word(frame, 56) != Some(port) {
        return None;
    }
    frame.get_mut(63..66)
}

/// The port that TCP pings go to.
const TCP_PORT: u16 = 80;

/// Where the TCP header of an untagged `frame` would be, if nothing is between it and the IP header.
fn tcp_at(frame: &[u8]) -> Option<usize> {
    match (word(frame, 12)?, frame.get(14)?) {
        (0x0800, 0x45) => (frame.get(23) == Some(&6)).then_some(34),
        (0x86dd, _) => (frame.get(20) == Some(&6)).then_some(54),
        _ => None,
    }
}

/// Port and sequence number of the SYN in `frame`, if it is one to the port that TCP pings go to.
pub fn tcp_syn(frame: &[u8]) -> Option<(u16, u32)> {
    let tcp = frame.get(tcp_at(frame)?..)?;
    let sequence = u32::from_be_bytes(*tcp.get(4..)?.first_chunk()?);
    let is_syn = word(tcp, 2) == Some(TCP_PORT) && tcp.get(13) == Some(&0x02);
    is_syn.then_some((word(tcp, 0)?, sequence))
}

/// Has a segment of the port that TCP pings go to be of the connection from `port` with that initial `sequence`: what it
/// acknowledges is up to three numbers behind it.
pub fn tcp_answer(frame: &mut [u8], port: u16, sequence: u32) {
    let Some(at) = tcp_at(frame) else { return };
    let Some(tcp) = frame.get_mut(at..).filter(|tcp| tcp.len() >= 20) else {
        return;
    };
    if word(tcp, 0) == Some(TCP_PORT) {
        put(tcp, 2, port);
        let behind = u32::from(tcp[11] & 3);
        tcp[8..12].copy_from_slice(&sequence.wrapping_add(behind).to_be_bytes());
    }
}
