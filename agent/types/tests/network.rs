//! Every rule of the network parameters, as a command line with the whole configuration it gives.

use agent_types::cmdline::Cmdline;
use agent_types::net::{Ipv4Config, NetworkConfig};
use agent_types::params::DEFAULT_NETWORK;

/// The rule, the command line, the configuration, and what the operator is told.
type Row<'a> = (&'a str, &'a str, &'a str, &'a [&'a str]);

const DEFAULT: &str = "eth0 192.168.0.2/24 via 192.168.0.1 name default-net dns 8.8.8.8";

const DEFAULT_USED: &str =
    "default network: 192.168.0.2/24 is used; no parameter gives a usable address";

const NFSROOT: &[Row<'_>] = &[
    ("nothing is given: the default network", "quiet", DEFAULT, &[]),
    ("an empty parameter is as good as none", "epoxy.ip= epoxy.ipv4= epoxy.ipv6=", DEFAULT, &[]),
    ("the kernel's own ip= is not read", "ip=dhcp", DEFAULT, &[]),
    (
        "M-Lab's iPXE string",
        "epoxy.ip=4.14.159.86::4.14.159.65:255.255.255.192:mlab1.lga0t.measurement-lab.org:eth0:off:8.8.8.8:8.8.4.4",
        "eth0 4.14.159.86/26 via 4.14.159.65 name mlab1.lga0t.measurement-lab.org dns 8.8.8.8 dns 8.8.4.4",
        &[],
    ),
    (
        "M-Lab's ISO string: the seventh field is false",
        "epoxy.ip=4.14.159.86::4.14.159.65:255.255.255.192:h:eth0:false:8.8.8.8:8.8.4.4",
        "eth0 4.14.159.86/26 via 4.14.159.65 name h dns 8.8.8.8 dns 8.8.4.4",
        &[],
    ),
    (
        "fields are positional: a server moves nothing",
        "epoxy.ip=10.0.0.2:10.0.0.9:10.0.0.1:255.255.255.0:h:eth1:none:10.0.0.53",
        "eth1 10.0.0.2/24 via 10.0.0.1 name h dns 10.0.0.53",
        &[],
    ),
    (
        "an empty gateway is none",
        "epoxy.ip=10.0.0.2:::255.255.255.0:h:eth0::10.0.0.53",
        "eth0 10.0.0.2/24 name h dns 10.0.0.53",
        &[],
    ),
    (
        "ten fields, the last a time server",
        "epoxy.ip=10.0.0.2::10.0.0.1:255.0.0.0:h:eth0:off:10.0.0.53:10.0.0.54:10.0.0.123",
        "eth0 10.0.0.2/8 via 10.0.0.1 name h dns 10.0.0.53 dns 10.0.0.54 ntp 10.0.0.123",
        &[],
    ),
    (
        "more than ten fields",
        "epoxy.ip=10.0.0.2::10.0.0.1:24:h:eth0:off:10.0.0.53:::1500:02:00",
        "eth0 10.0.0.2/24 via 10.0.0.1 name h dns 10.0.0.53",
        &["epoxy.ip: fields are 13; those after the tenth are ignored: leave them out"],
    ),
    (
        "a prefix length for a netmask",
        "epoxy.ip=10.0.0.2::10.0.0.1:26:h:eth0::1.1.1.1",
        "eth0 10.0.0.2/26 via 10.0.0.1 name h dns 1.1.1.1",
        &[],
    ),
    (
        "a prefix length behind the address",
        "epoxy.ip=10.0.0.2/26::10.0.0.1::h:eth0::1.1.1.1",
        "eth0 10.0.0.2/26 via 10.0.0.1 name h dns 1.1.1.1",
        &[],
    ),
    (
        "no netmask, class A",
        "epoxy.ip=10.1.2.3::10.0.0.1::h:eth0::1.1.1.1",
        "eth0 10.1.2.3/8 via 10.0.0.1 name h dns 1.1.1.1",
        &["epoxy.ip: netmask is empty; 255.0.0.0 is guessed from the address's class: give it"],
    ),
    (
        "no netmask, class B",
        "epoxy.ip=172.16.2.3::::h:eth0::1.1.1.1",
        "eth0 172.16.2.3/16 name h dns 1.1.1.1",
        &["epoxy.ip: netmask is empty; 255.255.0.0 is guessed from the address's class: give it"],
    ),
    (
        "no netmask, class C",
        "epoxy.ip=192.168.7.3::::h:eth0::1.1.1.1",
        "eth0 192.168.7.3/24 name h dns 1.1.1.1",
        &["epoxy.ip: netmask is empty; 255.255.255.0 is guessed from the address's class: give it"],
    ),
    (
        "a netmask with holes",
        "epoxy.ip=192.168.7.3:::255.0.255.0:h:eth0::1.1.1.1",
        "eth0 192.168.7.3/24 name h dns 1.1.1.1",
        &[
            "epoxy.ip: netmask \"255.0.255.0\" is no netmask; 255.255.255.0 is guessed from the address's class: give it",
        ],
    ),
    (
        "a gateway on another network gives no default route",
        "epoxy.ip=10.0.0.2::10.0.1.1:255.255.255.0:h:eth0::1.1.1.1",
        "eth0 10.0.0.2/24 name h dns 1.1.1.1",
        &[
            "epoxy.ip: gateway 10.0.1.1 is not on the network of 10.0.0.2/24; no default route is set: correct gateway or netmask",
        ],
    ),
    (
        "a gateway that is no address",
        "epoxy.ip=10.0.0.2::10.0.0.x:255.255.255.0:h:eth0::1.1.1.1",
        "eth0 10.0.0.2/24 name h dns 1.1.1.1",
        &["epoxy.ip: gateway \"10.0.0.x\" is no address; it is left out: correct it"],
    ),
    ("0.0.0.0 is empty", "epoxy.ip=0.0.0.0::0.0.0.0:0.0.0.0:::::", "any DHCP", &[]),
    (
        "no name: the address as text; no device: any; no name server: the default's",
        "epoxy.ip=10.0.0.2:::255.255.255.0",
        "any 10.0.0.2/24 name 10.0.0.2 dns 8.8.8.8",
        &[],
    ),
    (
        "a name that is none",
        "epoxy.ip=10.0.0.2:::24:-h!:eth0::1.1.1.1",
        "eth0 10.0.0.2/24 name 10.0.0.2 dns 1.1.1.1",
        &["epoxy.ip: hostname \"-h!\" is no host name; it is left out: correct it"],
    ),
    (
        "a device that is none",
        "epoxy.ip=10.0.0.2:::24:h:averyveryverylongname::1.1.1.1",
        "any 10.0.0.2/24 name h dns 1.1.1.1",
        &[
            "epoxy.ip: interface \"averyveryverylongname\" is no name of an interface; it is left out: correct it",
        ],
    ),
    (
        "a name server that is none",
        "epoxy.ip=10.0.0.2:::24:h:eth0::dns.example:1.1.1.1",
        "eth0 10.0.0.2/24 name h dns 1.1.1.1",
        &["epoxy.ip: name server \"dns.example\" is no address; it is left out: correct it"],
    ),
    (
        "a trailing newline is no part of the last field",
        "epoxy.ip=10.0.0.2::10.0.0.1:24:h:eth0::1.1.1.1:1.0.0.1\n",
        "eth0 10.0.0.2/24 via 10.0.0.1 name h dns 1.1.1.1 dns 1.0.0.1",
        &[],
    ),
];

const AUTOCONF: &[Row<'_>] = &[
    ("the whole value one word", "epoxy.ip=dhcp", "any DHCP", &[]),
    ("on", "epoxy.ip=on", "any DHCP", &[]),
    ("any", "epoxy.ip=any", "any DHCP", &[]),
    ("every field empty but the protocol", "epoxy.ip=::::::dhcp", "any DHCP", &[]),
    ("DHCP on one device", "epoxy.ip=:::::eth0:dhcp", "eth0 DHCP", &[]),
    ("device and protocol only", "epoxy.ip=eth1:dhcp", "eth1 DHCP", &[]),
    ("an empty client, no protocol", "epoxy.ip=::::h:eth0", "eth0 DHCP name h", &[]),
    ("name servers beside DHCP", "epoxy.ip=:::::eth0:dhcp:1.1.1.1", "eth0 DHCP dns 1.1.1.1", &[]),
    (
        "both is BOOTP and RARP",
        "epoxy.ip=both",
        "any DHCP",
        &["epoxy.ip: autoconf \"both\" asks for BOOTP or RARP; DHCP is used: write dhcp"],
    ),
    (
        "bootp",
        "epoxy.ip=:::::eth0:bootp",
        "eth0 DHCP",
        &["epoxy.ip: autoconf \"bootp\" asks for BOOTP or RARP; DHCP is used: write dhcp"],
    ),
    (
        "a client identifier",
        "epoxy.ip=:::::eth0:dhcp,1,02:00",
        "eth0 DHCP as 1 02",
        &["epoxy.ip: name server \"00\" is no address; it is left out: correct it"],
    ),
    ("a client identifier alone", "epoxy.ip=dhcp,0xff,rack7", "any DHCP as 255 rack7", &[]),
    (
        "a client identifier that is none",
        "epoxy.ip=eth1:dhcp,ether,rack7",
        "eth1 DHCP",
        &[
            "epoxy.ip: client identifier \"ether,rack7\" is no type from 0 to 255, a comma and 1 to 251 bytes; the Ethernet address is sent: correct it",
        ],
    ),
    (
        "off without an address",
        "epoxy.ip=:::::eth0:off",
        "eth0 DHCP",
        &[
            "epoxy.ip: autoconf is \"off\", but no address is given; DHCP is used: give an address, or write dhcp",
        ],
    ),
    (
        "off as the whole value",
        "epoxy.ip=off",
        "any DHCP",
        &[
            "epoxy.ip: autoconf is \"off\", but no address is given; DHCP is used: give an address, or write dhcp",
        ],
    ),
    (
        "an address wins over dhcp",
        "epoxy.ip=10.0.0.2:::24:h:eth0:dhcp:1.1.1.1",
        "eth0 10.0.0.2/24 name h dns 1.1.1.1",
        &[
            "epoxy.ip: autoconf is \"dhcp\", but an address is given; the address is used: write off, or leave it empty",
        ],
    ),
    (
        "an unknown word is like off",
        "epoxy.ip=10.0.0.2:::24:h:eth0:ibft:1.1.1.1",
        "eth0 10.0.0.2/24 name h dns 1.1.1.1",
        &["epoxy.ip: autoconf \"ibft\" is unknown; the address is used: write off"],
    ),
    (
        "words are case-sensitive",
        "epoxy.ip=:::::eth0:DHCP",
        "eth0 DHCP",
        &[
            "epoxy.ip: autoconf \"DHCP\" is unknown; DHCP is used, because no address is given: write dhcp",
        ],
    ),
    (
        "IPv6 in brackets is kept whole",
        "epoxy.ip=[2001:db8::2]::[2001:db8::1]:64:h:eth0:off:[2001:db8::53]",
        "eth0 DHCP and 2001:db8::2/64 via 2001:db8::1 name h dns 2001:db8::53",
        &["epoxy.ip: address is IPv6; IPv4, which the boot server needs, is asked for by DHCP"],
    ),
    (
        "a value that is nothing",
        "epoxy.ip=banana",
        DEFAULT,
        &[
            "epoxy.ip: address \"banana\" is no IPv4 address and no word such as dhcp; the parameter is ignored: correct it",
            DEFAULT_USED,
        ],
    ),
    (
        "an address with a typing error",
        "epoxy.ip=4.14.159.86x::4.14.159.65:255.255.255.192:h:eth1:off",
        DEFAULT,
        &[
            "epoxy.ip: address \"4.14.159.86x\" is no IPv4 address and no word such as dhcp; the parameter is ignored: correct it",
            DEFAULT_USED,
        ],
    ),
    (
        "an address that no machine has",
        "epoxy.ip=127.0.0.1:::8:h:eth0",
        DEFAULT,
        &[
            "epoxy.ip: address \"127.0.0.1\" is no IPv4 address and no word such as dhcp; the parameter is ignored: correct it",
            DEFAULT_USED,
        ],
    ),
];

const COMMAS: &[Row<'_>] = &[
    (
        "the new form",
        "epoxy.ipv4=4.14.159.86/26,4.14.159.65,8.8.8.8,8.8.4.4 epoxy.interface=eth1 epoxy.hostname=h",
        "eth1 4.14.159.86/26 via 4.14.159.65 name h dns 8.8.8.8 dns 8.8.4.4",
        &[],
    ),
    (
        "what epoxy.ipv4 leaves open is the default's",
        "epoxy.ipv4=10.0.0.2/24,10.0.0.1",
        "eth0 10.0.0.2/24 via 10.0.0.1 name default-net dns 8.8.8.8",
        &[],
    ),
    (
        "or what epoxy.ip says",
        "epoxy.ipv4=10.0.0.2/24,10.0.0.1 epoxy.ip=10.0.0.2::10.0.0.1:24:old:eth7:off:1.1.1.1",
        "eth7 10.0.0.2/24 via 10.0.0.1 name old dns 1.1.1.1",
        &[],
    ),
    (
        "a missing prefix",
        "epoxy.ipv4=192.168.0.2,192.168.0.1,8.8.8.8,8.8.4.4",
        "eth0 192.168.0.2/24 via 192.168.0.1 name default-net dns 8.8.8.8 dns 8.8.4.4",
        &["epoxy.ipv4: prefix is missing; 24 is used: write address/prefix"],
    ),
    (
        "a prefix that is none",
        "epoxy.ipv4=192.168.0.2/33",
        "eth0 192.168.0.2/24 name default-net dns 8.8.8.8",
        &["epoxy.ipv4: prefix \"33\" is none; 24 is used: write address/prefix"],
    ),
    (
        "a netmask for a prefix",
        "epoxy.ipv4=10.0.0.2/255.255.255.192,10.0.0.1,1.1.1.1",
        "eth0 10.0.0.2/26 via 10.0.0.1 name default-net dns 1.1.1.1",
        &[],
    ),
    (
        "too many fields",
        "epoxy.ipv4=10.0.0.2/24,10.0.0.1,1.1.1.1,1.0.0.1,9.9.9.9",
        "eth0 10.0.0.2/24 via 10.0.0.1 name default-net dns 1.1.1.1 dns 1.0.0.1",
        &["epoxy.ipv4: fields are 5; those after the fourth are ignored: leave them out"],
    ),
    (
        "epoxy.ipv4 wins over epoxy.ip, and the disagreement is told",
        "epoxy.ip=10.0.0.3::10.0.0.1:24:old:eth0:off:1.1.1.1 epoxy.ipv4=10.0.0.2/24,10.0.0.1,8.8.8.8 epoxy.interface=eth1 epoxy.hostname=new",
        "eth1 10.0.0.2/24 via 10.0.0.1 name new dns 8.8.8.8",
        &[
            "epoxy.ipv4: address 10.0.0.2/24 via 10.0.0.1 is not what epoxy.ip says, 10.0.0.3/24 via 10.0.0.1; the former is used: give both the same",
            "epoxy.ipv4: name server 8.8.8.8 is not what epoxy.ip says, 1.1.1.1; the former is used: give both the same",
            "epoxy.interface: value eth1 is not what epoxy.ip says, eth0; the former is used: give both the same",
            "epoxy.hostname: value new is not what epoxy.ip says, old; the former is used: give both the same",
        ],
    ),
    (
        "epoxy.ipv4 against DHCP",
        "epoxy.ip=dhcp epoxy.ipv4=10.0.0.2/24",
        "eth0 10.0.0.2/24 name default-net dns 8.8.8.8",
        &[
            "epoxy.ipv4: address 10.0.0.2/24 without gateway is not what epoxy.ip says, DHCP; the former is used: give both the same",
        ],
    ),
    (
        "a malformed epoxy.ipv4 leaves epoxy.ip",
        "epoxy.ipv4=x/24 epoxy.ip=dhcp",
        "any DHCP",
        &[
            "epoxy.ipv4: address \"x\" is no IPv4 address of a machine; the parameter is ignored: correct it",
        ],
    ),
    (
        "a malformed epoxy.ipv4 alone",
        "epoxy.ipv4=x/24",
        DEFAULT,
        &[
            "epoxy.ipv4: address \"x\" is no IPv4 address of a machine; the parameter is ignored: correct it",
            DEFAULT_USED,
        ],
    ),
    (
        "a malformed epoxy.ip beside a good epoxy.ipv4",
        "epoxy.ip=x epoxy.ipv4=10.0.0.2/24,,1.1.1.1",
        "eth0 10.0.0.2/24 name default-net dns 1.1.1.1",
        &[
            "epoxy.ip: address \"x\" is no IPv4 address and no word such as dhcp; the parameter is ignored: correct it",
        ],
    ),
    (
        "epoxy.ipv6 beside epoxy.ipv4",
        "epoxy.ipv4=10.0.0.2/24,10.0.0.1,8.8.8.8 epoxy.ipv6=2001:1900:2100:2d::86/64,2001:1900:2100:2d::1,2001:4860:4860::8888,2001:4860:4860::8844",
        "eth0 10.0.0.2/24 via 10.0.0.1 and 2001:1900:2100:2d::86/64 via 2001:1900:2100:2d::1 name default-net dns 8.8.8.8 dns 2001:4860:4860::8888 dns 2001:4860:4860::8844",
        &[],
    ),
    (
        "an IPv6 gateway may be link-local, and a missing prefix is 64",
        "epoxy.ip=dhcp epoxy.ipv6=2001:db8::2,fe80::1",
        "any DHCP and 2001:db8::2/64 via fe80::1",
        &["epoxy.ipv6: prefix is missing; 64 is used: write address/prefix"],
    ),
    (
        "a malformed epoxy.ipv6 is no IPv6",
        "epoxy.ip=dhcp epoxy.ipv6=10.0.0.2/24",
        "any DHCP",
        &[
            "epoxy.ipv6: address \"10.0.0.2\" is no IPv6 address of a machine; the parameter is ignored: correct it",
        ],
    ),
    ("epoxy.interface alone", "epoxy.interface=eth3", DEFAULT_ON_ETH3, &[]),
    (
        "epoxy.interface and epoxy.hostname with DHCP",
        "epoxy.ip=dhcp epoxy.interface=eth3 epoxy.hostname=h",
        "eth3 DHCP name h",
        &[],
    ),
    (
        "given twice with different values: the last, and a warning",
        "epoxy.ip=dhcp epoxy.ip=eth1:dhcp",
        "eth1 DHCP",
        &[
            "epoxy.ip: value is given differently: dhcp and eth1:dhcp; the last is used: give it once",
        ],
    ),
    ("given twice alike", "epoxy.ip=dhcp epoxy.ip=dhcp", "any DHCP", &[]),
];

const DEFAULT_ON_ETH3: &str = "eth3 192.168.0.2/24 via 192.168.0.1 name default-net dns 8.8.8.8";

#[test]
fn each_command_line_gives_its_configuration_and_its_warnings() {
    for (rule, cmdline, config, warnings) in [NFSROOT, AUTOCONF, COMMAS].concat() {
        let choice = NetworkConfig::from_cmdline(&Cmdline::parse(cmdline));
        assert_eq!(shown(&choice.config), config, "{rule}: {cmdline}");
        let lines: Vec<_> = choice.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(lines, warnings, "{rule}: {cmdline}");
    }
}

#[test]
fn the_default_network_is_what_its_string_says() {
    let default = NetworkConfig::from_cmdline(&Cmdline::parse(""));
    let written = format!("epoxy.ip={DEFAULT_NETWORK}");
    assert_eq!(default.config, NetworkConfig::from_cmdline(&Cmdline::parse(&written)).config);
}

#[test]
fn every_value_names_the_parameter_it_came_from() {
    let cmdline = "epoxy.ip=10.0.0.9::10.0.0.1:24::eth7:off:1.1.1.1::10.0.0.3 \
                   epoxy.ipv4=10.0.0.2/24,10.0.0.1 epoxy.ipv6=2001:db8::2/64,2001:db8::1,2001:db8::53";
    let choice = NetworkConfig::from_cmdline(&Cmdline::parse(cmdline));
    let lines: Vec<_> = choice.sources.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "address 10.0.0.2/24 from epoxy.ipv4",
            "gateway 10.0.0.1 from epoxy.ipv4",
            "ipv6 address 2001:db8::2/64 from epoxy.ipv6",
            "ipv6 gateway 2001:db8::1 from epoxy.ipv6",
            "interface eth7 from epoxy.ip",
            "hostname default-net from default network",
            "name server 1.1.1.1 from epoxy.ip",
            "name server 2001:db8::53 from epoxy.ipv6",
            "time server 10.0.0.3 from epoxy.ip",
        ]
    );
}

/// Every field of a configuration in one line.
fn shown(config: &NetworkConfig) -> String {
    let mut line = config.interface.clone().unwrap_or_else(|| "any".to_owned());
    line += &match config.ipv4 {
        Ipv4Config::Dhcp => " DHCP".to_owned(),
        Ipv4Config::Static(own) => format!(" {own}") + &via(own.gateway),
    };
    line += &config
        .dhcp_client_id
        .iter()
        .map(|client| format!(" as {} {}", client.kind, client.id))
        .collect::<String>();
    line += &config.ipv6.map(|own| format!(" and {own}") + &via(own.gateway)).unwrap_or_default();
    line += &config.hostname.iter().map(|name| format!(" name {name}")).collect::<String>();
    line += &config.dns.iter().map(|server| format!(" dns {server}")).collect::<String>();
    line + &config.ntp.iter().map(|server| format!(" ntp {server}")).collect::<String>()
}

fn via(gateway: Option<impl std::fmt::Display>) -> String {
    gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default()
}
