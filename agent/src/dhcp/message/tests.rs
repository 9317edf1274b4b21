//! Claims about messages.

use super::*;
use crate::netlink::IfIndex;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const XID: u32 = 0x1234_5678;
const NOW: Duration = Duration::from_secs(5);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
/// How many damaged messages are read.
const MESSAGES: u32 = 100_000;

fn client() -> Client {
    Client {
        index: IfIndex(2),
        interface: "eth0".to_owned(),
        mac: MAC,
        hostname: Some("mlab1.example.org".to_owned()),
        id: None,
    }
}

/// An answer of a server, with its options as given.
fn reply(options: Vec<DhcpOption>) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(XID, none, ADDRESS, none, none, &MAC.0);
    message.set_opcode(Opcode::BootReply);
    message.opts_mut().insert(DhcpOption::ServerIdentifier(SERVER));
    message.opts_mut().insert(DhcpOption::MessageType(MessageType::Ack));
    for option in options {
        message.opts_mut().insert(option);
    }
    message
}

fn parse(message: &Message) -> Option<Answer> {
    Answer::parse(&message.to_vec().unwrap(), MAC, XID, NOW)
}

fn lease_of(options: Vec<DhcpOption>) -> Lease {
    match parse(&reply(options)) {
        Some(Answer::Ack(lease)) => lease,
        other => panic!("expected an acknowledgement, got {other:?}"),
    }
}

fn bare_lease() -> Lease {
    Lease {
        obtained: NOW,
        renew_after: Duration::from_secs(1800),
        rebind_after: Duration::from_secs(3150),
        expires_after: Duration::from_secs(3600),
        ..Lease::bare(ADDRESS, SERVER)
    }
}

#[test]
fn a_lease_says_all_that_the_server_said() {
    let gateway = Ipv4Addr::new(10, 0, 0, 254);
    let second = Ipv4Addr::new(10, 0, 0, 253);
    assert_eq!(
        lease_of(vec![
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 192)),
            DhcpOption::Router(vec![gateway, second]),
            DhcpOption::DomainNameServer(vec![SERVER, second]),
            DhcpOption::NtpServers(vec![second]),
            DhcpOption::DomainName("example.org.\0".to_owned()),
            DhcpOption::Hostname("mlab1".to_owned()),
            DhcpOption::InterfaceMtu(9000),
            DhcpOption::AddressLeaseTime(120),
            DhcpOption::Renewal(50),
            DhcpOption::Rebinding(100),
        ]),
        Lease {
            prefix_len: 26,
            routes: vec![Route::default_via(gateway.into())],
            dns: vec![SERVER.into(), second.into()],
            ntp: vec![second.into()],
            domain: Some("example.org".to_owned()),
            hostname: Some("mlab1".to_owned()),
            mtu: Some(9000),
            renew_after: Duration::from_secs(50),
            rebind_after: Duration::from_secs(100),
            expires_after: Duration::from_secs(120),
            ..bare_lease()
        }
    );
}

#[test]
fn what_the_server_does_not_say_is_as_the_standards_have_it() {
    assert_eq!(lease_of(vec![]), bare_lease());
}

#[test]
fn classless_routes_replace_the_routers() {
    let via = Ipv4Addr::new(10, 0, 0, 3);
    let lease = lease_of(vec![
        DhcpOption::Router(vec![SERVER]),
        DhcpOption::ClasslessStaticRoute(vec![
            ("10.9.0.0/24".parse().unwrap(), Ipv4Addr::UNSPECIFIED),
            ("0.0.0.0/0".parse().unwrap(), via),
        ]),
    ]);
    let on_link = Route { destination: "10.9.0.0".parse().unwrap(), prefix_len: 24, gateway: None };
    assert_eq!(lease.routes, [on_link, Route::default_via(via.into())]);
}

#[test]
fn impossible_times_are_replaced() {
    for (lease, renewal, rebinding, expected) in [
        (120, 0, 0, [60, 105, 120]),
        (120, 100, 50, [60, 105, 120]),
        (120, 50, 120, [60, 105, 120]),
        (120, 50, 100, [50, 100, 120]),
        (0, 0, 0, [30, 49, 60]),
    ] {
        let lease_of = lease_of(vec![
            DhcpOption::AddressLeaseTime(lease),
            DhcpOption::Renewal(renewal),
            DhcpOption::Rebinding(rebinding),
        ]);
        let times = [lease_of.renew_after, lease_of.rebind_after, lease_of.expires_after];
        assert_eq!(times, expected.map(Duration::from_secs), "{lease} {renewal} {rebinding}");
    }
    let forever = lease_of(vec![DhcpOption::AddressLeaseTime(u32::MAX)]);
    assert_eq!(forever.renew_after, Duration::MAX);
}

#[test]
fn a_missing_or_broken_mask_is_guessed_from_the_class() {
    for (address, mask, expected) in [
        ([10, 0, 0, 7], None, 8),
        ([172, 16, 0, 7], None, 16),
        ([192, 168, 0, 7], None, 24),
        ([192, 168, 0, 7], Some([255, 0, 255, 0]), 24),
        ([192, 168, 0, 7], Some([0, 0, 0, 0]), 24),
        ([192, 168, 0, 7], Some([255, 255, 255, 255]), 32),
        ([192, 168, 0, 7], Some([255, 255, 254, 0]), 23),
    ] {
        assert_eq!(prefix_len(address.into(), mask.map(Ipv4Addr::from)), expected, "{mask:?}");
    }
}

#[test]
fn names_that_are_not_names_are_dropped() {
    let lease = lease_of(vec![
        DhcpOption::Hostname("a\n6.6.6.6 boot.example.org".to_owned()),
        DhcpOption::DomainName("$(reboot)".to_owned()),
    ]);
    assert_eq!((lease.hostname, lease.domain), (None, None));
}

#[test]
fn a_refusal_is_shown_without_its_control_characters() {
    let mut message = reply(vec![DhcpOption::Message("wrong\x1b[2J network\n".to_owned())]);
    message.opts_mut().insert(DhcpOption::MessageType(MessageType::Nak));
    let reason = "wrong[2J network".to_owned();
    assert_eq!(parse(&message), Some(Answer::Nak { server: SERVER, reason }));
}

#[test]
fn what_was_said_to_somebody_else_is_no_answer() {
    type Damage = fn(&mut Message);
    let damages: [(&str, Damage); 7] = [
        ("a question", |message| drop(message.set_opcode(Opcode::BootRequest).clone())),
        ("another number", |message| drop(message.set_xid(1).clone())),
        ("another card", |message| drop(message.set_chaddr(&[2, 0, 0, 0, 0, 9]).clone())),
        ("a longer hardware address", |message| drop(message.set_chaddr(&[2; 16]).clone())),
        ("no address", |message| drop(message.set_yiaddr(Ipv4Addr::UNSPECIFIED).clone())),
        ("no kind", |message| drop(message.opts_mut().remove(OptionCode::MessageType))),
        ("no server", |message| drop(message.opts_mut().remove(OptionCode::ServerIdentifier))),
    ];
    for (what, damage) in damages {
        let mut message = reply(vec![]);
        damage(&mut message);
        assert_eq!(parse(&message), None, "{what}");
    }
}

#[test]
fn bytes_that_are_no_message_are_no_answer() {
    let whole = reply(vec![DhcpOption::Router(vec![SERVER])]).to_vec().unwrap();
    for len in 0..240 {
        assert_eq!(Answer::parse(&whole[..len], MAC, XID, NOW), None, "{len} bytes");
    }
    let mut liar = whole.clone();
    liar[2] = 255; // says that its hardware address has 255 bytes
    assert_eq!(Answer::parse(&liar, MAC, XID, NOW), None);
}

/// The value of an option, if the message has it and it is of the right kind.
macro_rules! option {
    ($message:expr, $name:ident) => {
        match $message.opts().get(OptionCode::$name) {
            Some(DhcpOption::$name(value)) => Some(value),
            _ => None,
        }
    };
}

#[test]
fn questions_carry_what_servers_go_by() {
    let offer = bare_lease();
    let elapsed = Duration::from_secs(7);
    let questions = [
        discover(&client(), XID, elapsed),
        request(&client(), XID, elapsed, &offer),
        renewal(&client(), XID, ADDRESS),
    ]
    .map(|bytes| Message::decode(&mut Decoder::new(&bytes)).unwrap());
    let none = Ipv4Addr::UNSPECIFIED;
    let expected = [
        (MessageType::Discover, 7, none, None, None),
        (MessageType::Request, 7, none, Some(ADDRESS), Some(SERVER)),
        (MessageType::Request, 0, ADDRESS, None, None),
    ];
    for (question, expected) in questions.iter().zip(expected) {
        let (kind, secs, ciaddr, requested, server) = expected;
        assert_eq!(question.opts().msg_type(), Some(kind));
        assert_eq!((question.secs(), question.ciaddr()), (secs, ciaddr));
        assert_eq!(option!(question, RequestedIpAddress).copied(), requested);
        assert_eq!(option!(question, ServerIdentifier).copied(), server);
        assert_eq!(option!(question, Hostname).unwrap(), "mlab1.example.org");
        assert_eq!(option!(question, ClientIdentifier).unwrap(), &[1, 2, 0, 0, 0, 0, 1]);
        assert_eq!(question.chaddr(), MAC.0);
    }
}

#[test]
fn an_option_that_is_wrong_does_not_take_those_behind_it_along() {
    let mut bytes = reply(vec![]).to_vec().unwrap();
    bytes.truncate(HEADER_BYTES);
    // Message type, server, a domain in Latin-1, then what matters.
    bytes.extend([53, 1, 5, 54, 4, 10, 0, 0, 1]);
    bytes.extend([15, 4, b'c', b'a', b'f', 0xe9]);
    bytes.extend([1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 0, 254, 6, 4, 10, 0, 0, 1, 255]);
    let Some(Answer::Ack(lease)) = Answer::parse(&bytes, MAC, XID, NOW) else {
        panic!("no lease");
    };
    assert_eq!((lease.prefix_len, lease.routes.len(), lease.dns.len()), (24, 1, 1));
}

/// The same numbers in every run (Knuth's generator).
fn numbers(seed: u64) -> impl FnMut() -> usize {
    let mut state = seed;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    }
}

#[test]
fn no_bytes_from_the_network_make_the_reader_panic() {
    let whole = reply(vec![
        DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
        DhcpOption::ClasslessStaticRoute(vec![("10.0.0.0/8".parse().unwrap(), SERVER)]),
        DhcpOption::DomainName("example.org".to_owned()),
        DhcpOption::InterfaceMtu(1500),
        DhcpOption::AddressLeaseTime(60),
    ]);
    let whole = whole.to_vec().unwrap();
    let mut random = numbers(1);
    for _ in 0..MESSAGES {
        let mut bytes = whole.clone();
        for _ in 0..1 + random() % 6 {
            let at = random() % bytes.len();
            let at = if !random().is_multiple_of(4) { 236 + at % (bytes.len() - 236) } else { at };
            bytes[at] = random() as u8;
        }
        bytes.truncate(1 + random() % bytes.len().saturating_mul(4).max(1));
        drop(Answer::parse(&bytes, MAC, XID, NOW));
    }
}

#[test]
fn no_option_from_the_network_makes_the_reader_panic() {
    let mut whole = reply(vec![]).to_vec().unwrap();
    whole.truncate(HEADER_BYTES);
    whole.extend([53, 1, 5, 54, 4, 10, 0, 0, 1]);
    let mut random = numbers(7);
    for _ in 0..MESSAGES {
        let mut bytes = whole.clone();
        for _ in 0..4 {
            let (code, len) = (random() as u8, random() % 24);
            bytes.extend([code, len as u8]);
            let zeros = random().is_multiple_of(3);
            bytes.extend((0..len).map(|_| if zeros { 0 } else { random() as u8 }));
        }
        drop(Answer::parse(&bytes, MAC, XID, NOW));
    }
}
