//! Packs DHCP messages into Ethernet frames, and finds them there.
//!
//! A machine without an address can neither send nor be sent to through the kernel's IP, so the
//! two outer layers are done here. RFC 791, RFC 768.

use std::net::Ipv4Addr;

use crate::netlink::MacAddr;

/// Where DHCP servers listen.
pub(super) const SERVER_PORT: u16 = 67;
/// Where DHCP clients listen.
pub(super) const CLIENT_PORT: u16 = 68;

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const PROTOCOL_UDP: u8 = 17;

/// A frame from a machine without an address to every DHCP server on the link.
pub(super) fn broadcast(from: MacAddr, payload: &[u8]) -> Vec<u8> {
    let udp = udp(payload);
    let mut frame = Vec::with_capacity(ETHERNET_BYTES + IPV4_BYTES + udp.len());
    frame.extend([0xff; 6]);
    frame.extend(from.0);
    frame.extend(ETHERTYPE_IPV4);
    frame.extend(ipv4_header(udp.len()));
    frame.extend(udp);
    frame
}

fn ipv4_header(udp_bytes: usize) -> [u8; IPV4_BYTES] {
    let mut header = [0; IPV4_BYTES];
    header[0] = 0x45; // version 4, five words
    header[2..4].copy_from_slice(&length(IPV4_BYTES + udp_bytes));
    header[8] = 64; // hops
    header[9] = PROTOCOL_UDP;
    header[16..20].copy_from_slice(&Ipv4Addr::BROADCAST.octets());
    let sum = checksum(header.iter().copied());
    header[10..12].copy_from_slice(&sum);
    header
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let udp_length = length(UDP_BYTES + payload.len());
    let mut datagram = Vec::with_capacity(UDP_BYTES + payload.len());
    datagram.extend(CLIENT_PORT.to_be_bytes());
    datagram.extend(SERVER_PORT.to_be_bytes());
    datagram.extend(udp_length);
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let pseudo_header = Ipv4Addr::UNSPECIFIED
        .octets()
        .into_iter()
        .chain(Ipv4Addr::BROADCAST.octets())
        .chain([0, PROTOCOL_UDP])
        .chain(udp_length);
    let sum = match checksum(pseudo_header.chain(datagram.iter().copied())) {
        // Zero stands for "no checksum".
        [0, 0] => [0xff, 0xff],
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum);
    datagram
}

/// A DHCP message is far from the limit of 64 KiB.
fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

/// RFC 1071.
fn checksum(bytes: impl Iterator<Item = u8>) -> [u8; 2] {
    let sum: u32 = bytes
        .enumerate()
        .map(|(at, byte)| if at % 2 == 0 { u32::from(byte) << 8 } else { u32::from(byte) })
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let [.., high, low] = (!folded).to_be_bytes();
    [high, low]
}

/// The message to a DHCP client in `frame`, if it carries one.
///
/// Checksums are not looked at: cards fill them in later for packets that never leave the host,
/// and the link has its own.
pub(super) fn payload(frame: &[u8]) -> Option<&[u8]> {
    let (ethernet, ip) = frame.split_at_checked(ETHERNET_BYTES)?;
    let header_bytes = usize::from(ip.first()? & 0x0f) * 4;
    let (header, _) = ip.split_at_checked(header_bytes.max(IPV4_BYTES))?;
    let total_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    let is_udp = ethernet[12..] == ETHERTYPE_IPV4
        && header[0] >> 4 == 4
        && header[9] == PROTOCOL_UDP
        && !is_fragment;
    // Short frames are padded to 60 bytes: the IP header knows where the message ends.
    let (udp, message) = ip.get(header.len()..total_bytes)?.split_at_checked(UDP_BYTES)?;
    let is_to_client = udp[2..4] == CLIENT_PORT.to_be_bytes();
    (is_udp && is_to_client).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    /// The frame as a server would send it back: the ports change places.
    fn to_client(message: &[u8]) -> Vec<u8> {
        let mut frame = broadcast(MAC, message);
        frame[34..38].copy_from_slice(&[0, 67, 0, 68]);
        frame
    }

    #[test]
    fn a_broadcast_frame_is_what_the_standards_say() {
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x00,
            0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0x7a, 0xcf, 0, 0, 0, 0, 255, 255, 255, 255,
            0, 68, 0, 67, 0, 11, 0x3a, 0xef,
            b'a', b'b', b'c',
        ];
        assert_eq!(broadcast(MAC, b"abc"), expected);
    }

    #[test]
    fn a_message_is_found_without_the_padding_behind_it() {
        let mut frame = to_client(b"abc");
        frame.resize(60, 0);
        assert_eq!(payload(&frame), Some(&b"abc"[..]));
    }

    #[test]
    fn what_is_not_a_message_to_a_client_is_passed_over() {
        type Damage = fn(&mut Vec<u8>);
        let damages: [(&str, Damage); 8] = [
            ("another protocol than IP", |frame| frame[12] = 0x86),
            ("another version of IP", |frame| frame[14] = 0x65),
            ("a header that is longer than the packet", |frame| frame[14] = 0x4f),
            ("a fragment", |frame| frame[20] = 0x20),
            ("another protocol than UDP", |frame| frame[23] = 6),
            ("another port", |frame| frame[37] = 67),
            ("a length beyond the frame", |frame| frame[17] = 200),
            ("a length that ends in the header", |frame| frame[17] = 19),
        ];
        for (what, damage) in damages {
            let mut frame = to_client(b"abc");
            damage(&mut frame);
            assert_eq!(payload(&frame), None, "{what}");
        }
        let frame = to_client(b"abc");
        for len in 0..frame.len() {
            assert_eq!(payload(&frame[..len]), None, "cut after {len} bytes");
        }
    }
}
