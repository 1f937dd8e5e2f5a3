//! The rows.

use Category::{Addresses, Fabric, Lab, Output, Traffic, Vms};
use Kind::{Number, OneOf, Path, Sizes, Switch, Text, Time, TimeOr, Whole};
use Scope::{CommandLine, File, Group, Load, Phase, Run};

use super::{Category, Default, Kind, OptionSpec, Scope};
use crate::experiment::from_code::PAYLOAD_LENGTH;
use crate::experiment::plan::{LARGE_SUBNET, MOST_IN_SUBNET, SUBNET, VMS_OF_A_GROUP};
use crate::hypervisor::ADDRESS_WAIT;
use crate::report::{Format, expect};
use crate::system::{DEFAULT_BRIDGE, DEFAULT_MTU, DEFAULT_TAP_PREFIX, DEFAULT_VMS};
use crate::topology::DEFAULT_PORTS_PER_BRIDGE;
use crate::vm::{ArpRequest, DEFAULT_TIME_TO_LIVE, ProbeKind, TcpClose};

/// The fabrics that are made of TAPs.
const TAPS: &[&str] = &["bridge", "xdp", "none"];

/// The fabrics whose frames the kernel carries.
const REAL: &[&str] = &["bridge", "xdp", "none", "interface"];

/// The fabrics that take VMs in the course of a run.
const NOT_NONE: &[&str] = &["bridge", "xdp", "sim"];

/// An option with a value.
const fn value(name: &'static str, value_name: &'static str, kind: Kind) -> OptionSpec {
    OptionSpec {
        name,
        short: None,
        value_name,
        kind,
        implied: None,
        category: Lab,
        scope: Run,
        is_repeatable: false,
        fabrics: &[],
        default: Default::None,
        is_main: false,
        help: "",
        details: "",
        more: None,
    }
}

/// An option that is on or off.
const fn switch(name: &'static str) -> OptionSpec {
    value(name, "", Switch)
}

impl OptionSpec {
    const fn place(self, category: Category, scope: Scope) -> OptionSpec {
        OptionSpec {
            category,
            scope,
            ..self
        }
    }

    const fn help(self, help: &'static str) -> OptionSpec {
        OptionSpec { help, ..self }
    }

    const fn short(self, short: char) -> OptionSpec {
        OptionSpec {
            short: Some(short),
            ..self
        }
    }

    /// May be given without a value, which is this one then.
    const fn implies(self, implied: &'static str) -> OptionSpec {
        OptionSpec {
            implied: Some(implied),
            ..self
        }
    }

    const fn repeatable(self) -> OptionSpec {
        OptionSpec {
            is_repeatable: true,
            ..self
        }
    }

    /// Works with these fabrics only.
    const fn only(self, fabrics: &'static [&'static str]) -> OptionSpec {
        OptionSpec { fabrics, ..self }
    }

    const fn default(self, default: Default) -> OptionSpec {
        OptionSpec { default, ..self }
    }

    const fn main(self) -> OptionSpec {
        OptionSpec {
            is_main: true,
            ..self
        }
    }

    const fn details(self, details: &'static str) -> OptionSpec {
        OptionSpec { details, ..self }
    }

    const fn more(self, more: fn() -> String) -> OptionSpec {
        OptionSpec {
            more: Some(more),
            ..self
        }
    }
}

/// All options, in the order of the help text.
pub const OPTIONS: &[OptionSpec] = &[
    // Lab.
    value("scenario", "FILE", Path)
        .place(Lab, CommandLine)
        .help("Read settings, groups of VMs and phases from a TOML file")
        .main()
        .details(
            "Keys are the long flags without their dashes. Flags win over the file, in every \
             phase.",
        ),
    switch("dry-run")
        .place(Lab, CommandLine)
        .help("Print the plan and exit; nothing is created or sent")
        .main(),
    value("sweep", "SETTING=VALUES", Text)
        .place(Lab, CommandLine)
        .help("Run once for each value, such as vms=10,100,1000, and compare")
        .details(
            "Any other setting that has one value may be swept. The runs follow each other and are reported as by 'report \
             --compare', the first as the baseline, with the first value at which a neighbour is not found or an --expect does \
             not hold. {} in the name of a file stands for the value: -o 'run-{}.json' writes a report of each run, and -o \
             sweep.html the comparison.",
        ),
    value("cores", "N|all", Text)
        .place(Lab, CommandLine)
        .help("Run on so many cores at once: a process on each, one report")
        .details(
            "The VMs are divided among the processes, which share one lab: rank R of N has vmI for I from R·n/N to before \
             (R+1)·n/N of n VMs. Flows within one process are as fast as without; a flow to a VM of another costs more. Not \
             with --fabric sim.",
        ),
    value("rank", "auto|R/N", Text)
        .place(Lab, CommandLine)
        .help("Run as rank R of N that a launcher starts with the same words")
        .details(
            "auto: what Slurm, MPI's launchers, torchrun or a Kubernetes Indexed Job say in the environment. Each rank has a \
             lab of its own, unless --join or a switch connects them. Rank 0 tells the report of all.",
        ),
    value("ranks", "N", Whole)
        .place(Lab, CommandLine)
        .help("How many ranks there are, where the launcher does not say it"),
    value("meet", "HOST:PORT|PATH", Text)
        .place(Lab, CommandLine)
        .help("Where rank 0 listens for the others")
        .default(Default::Words(
            "MASTER_ADDR and MASTER_PORT, or the first host of Slurm's step",
        ))
        .details(
            "A path is that of a Unix socket. Messages are authenticated by a secret, and not encrypted: use a tunnel where \
             others must not read them.",
        ),
    value("meet-secret-file", "FILE", Path)
        .place(Lab, CommandLine)
        .help("The secret that all ranks share")
        .default(Default::Words(
            "the environment variable TAP_REACTOR_MEET_SECRET",
        ))
        .details(
            "A line of 16 characters or more, as 'openssl rand -hex 32' prints it, in a file that only its owner can read. \
             Needed where --meet is neither a path nor a loopback address.",
        ),
    value("netns", "NAME", Text)
        .place(Lab, Run)
        .help("Network namespace of the lab: private, host or a name")
        .only(REAL)
        .default(Default::Text("private"))
        .main()
        .details(
            "private is a new namespace that ends with the process; host is the namespace the \
             program is started in; any other name is a named namespace as `ip netns` lists it, \
             created if it does not exist. With --fabric interface it is where the interfaces are: host by default, or a name.",
        ),
    value("join", "BRIDGE|GROUP", Text)
        .place(Lab, Run)
        .help("Join a bridge with the TAPs, or a multicast group; repeatable")
        .repeatable()
        .details(
            "A bridge that exists, such as docker0, cni0 or virbr0, is left unchanged. It needs \
             --netns host or --netns NAME, and --dhcp or --subnet for addresses of the VMs. A \
             multicast group, such as 239.1.2.3 or ff05::1:3, is joined by all VMs (IGMP, MLD): \
             they report it, and answer pings to it. In groups of a scenario only multicast \
             groups may be joined.",
        ),
    switch("attach")
        .place(Lab, Run)
        .help("Use a bridge and TAPs that exist, and leave them unchanged")
        .only(&["bridge"])
        .details(
            "They are expected to look as scripts/lab-up.sh creates them. Needs --netns host or \
             --netns NAME.",
        ),
    value("seed", "N", Whole)
        .place(Lab, Run)
        .help("Seed of all random choices")
        .default(Default::Number(0)),
    value("spin", "TIME|off", TimeOr("always"))
        .place(Lab, Run)
        .help("Busy-poll instead of sleeping: lower latency, one full core")
        .implies("always")
        .only(REAL)
        .default(Default::Text("0"))
        .details("With a TIME, poll for that long after each event before going to sleep."),
    value("name", "TEXT", Text)
        .place(Lab, File)
        .help("Name of the scenario"),

    // VMs.
    value("join", "GROUP", Text)
        .place(Vms, Group)
        .help("Multicast groups that the VMs of the group join")
        .repeatable(),
    value("vms", "N", Whole)
        .place(Vms, Run)
        .help("Number of VMs")
        .default(Default::Number(DEFAULT_VMS as u64))
        .main()
        .details(
            "They are named vm0, vm1, … The address of vmI is the subnet's network address + 2 \
             + I.",
        ),
    value("name", "TEXT", Text)
        .place(Vms, Group)
        .help("Name of the group, for use in patterns"),
    value("vms", "N", Whole)
        .place(Vms, Group)
        .help("Number of VMs in the group")
        .default(Default::Number(VMS_OF_A_GROUP as u64)),
    value("address", "IP", Text)
        .place(Vms, Group)
        .help("IPv4 address of the group's first VM; the others follow"),
    value("mac", "MAC", Text)
        .place(Vms, Group)
        .help("MAC address of the group's first VM; the others follow"),
    value("vlan", "ID[.ID]", Text)
        .place(Vms, Group)
        .help("VLAN of the group's VMs"),
    value("rank", "R", Whole)
        .place(Vms, Group)
        .help("The rank that has the group's VMs, if there are several"),
    value("size", "BYTES", Whole)
        .place(Vms, Group)
        .help("Payload of the pings that the group's VMs send"),
    value("probe", "KIND", OneOf(ProbeKind::NAMES))
        .place(Vms, Group)
        .help("What the group's VMs ping with"),
    value("port", "N", Whole)
        .place(Vms, Group)
        .help("Port that the pings of the group's VMs go to"),
    value("tcp-close", "HOW", OneOf(TcpClose::NAMES))
        .place(Vms, Group)
        .help("How pings by tcp of the group's VMs end their connections"),
    value("tcp-hold", "TIME", Time)
        .place(Vms, Group)
        .help("Time for which those keep their connections open"),
    value("arp-request", "HOW", OneOf(ArpRequest::NAMES))
        .place(Vms, Group)
        .help("Who is asked by pings by arp of the group's VMs"),
    switch("udp-echo")
        .place(Vms, Run)
        .help("VMs echo datagrams sent to UDP port 7 (RFC 862)")
        .details("On by default where pings by UDP go there."),
    value(
        "stamp-reflector",
        "MODE",
        OneOf(&["off", "stateless", "stateful"]),
    )
    .implies("stateless")
    .place(Vms, Run)
    .help("VMs reflect STAMP test packets sent to UDP port 862 (RFC 8762)")
    .default(Default::Words("off; stateless where pings by stamp go there"))
    .details(
        "stateless: each reflected packet has the number of the test packet. stateful: those of a session are numbered one after \
         the other. Test packets of TWAMP Light are reflected, too.",
    ),
    value("tcp-listen", "PORT|off", Text)
        .place(Vms, Run)
        .help("VMs accept TCP connections, without data, at this port")
        .default(Default::Words("off; 80 where pings by tcp go there"))
        .details(
            "Nothing is kept of a connection, so that neither SYNs nor connections take memory, however many they are. One that brings \
             data is reset. VMs reset what goes to other ports.",
        ),
    switch("announce")
        .place(Vms, Run)
        .help("VMs announce their addresses when they start")
        .details(
            "By gratuitous ARP (RFC 5227) and unsolicited neighbour advertisements (RFC 4861).",
        ),

    // Traffic.
    value("ping", "SRC:DST", Text)
        .place(Traffic, Load)
        .help("Who pings whom, such as vm0:vm1 or mesh; repeatable")
        .repeatable()
        .main()
        .details(
            "Patterns: vm0:vm1, vm0:absent (an IPv4 address that nobody has), vm0:all, all:vm0, vm[0-49]:vm[50-99], mesh, ring, pairs, \
             random:K, multicast; DST may be an address, of a multicast group too (multicast: \
             vm0 to each group of --join). Several patterns add up. Without this option the \
             VMs only answer, until --duration is over or SIGINT or SIGTERM arrives.",
        ),
    value("stream", "SRC:DST", Text)
        .place(Traffic, Load)
        .help("Who sends frames one way to whom, such as vm0:vm1; repeatable")
        .repeatable()
        .main()
        .details(
            "UDP to port 9, which nobody answers: received, lost, duplicated and reordered frames, one-way times and their \
             variation, by one clock. Patterns as those of --ping; vm0:absent is flooded to a hardware address that nobody has, \
             vm0:broadcast goes to all of the VLAN, and frames that VMs get which they are not for are counted. --rate, --interval \
             and --size are theirs in a phase without pings; a pattern may have its own behind commas: \
             'vm0:vm1,rate=100k,size=imix'. From one rank to another only to VMs whose address no DHCP server chooses, and in labs \
             that are connected.",
        ),
    switch("ping-ipv6")
        .place(Traffic, Load)
        .help("Ping VMs over IPv6 instead of IPv4; streams go that way, too")
        .short('6'),
    value("probe", "KIND", OneOf(ProbeKind::NAMES))
        .place(Traffic, Load)
        .help("What the pings are: icmp, udp, stamp, tcp or arp")
        .default(Default::Words("icmp, or that of the source's group"))
        .main()
        .details(
            "icmp: echo requests. udp: datagrams to a port where they come back, that of the echo service (RFC 862) if no --port \
             is said; an ICMP port unreachable ends a ping as refused. stamp: test packets that a STAMP or \
             TWAMP Light reflector sends back (RFC 8762). tcp: SYNs that open a connection, at port 80 if no --port is said; a reset ends a \
             ping as refused. arp: requests for the destination's hardware address, over IPv6 neighbour \
             solicitations, one at a time. A pattern may have its own behind commas: \
             'vm0:vm1,probe=udp,port=9000'.",
        ),
    value("port", "N", Whole)
        .place(Traffic, Load)
        .help("Port that the pings go to, if they go to one")
        .default(Default::Words("that of the service: udp 7, stamp 862, tcp 80")),
    value("tcp-close", "HOW", OneOf(TcpClose::NAMES))
        .place(Traffic, Load)
        .help("How pings by tcp end their connections: rst or fin")
        .default(Default::Words("rst"))
        .details(
            "rst: by a reset, which takes the place of the handshake's last segment if the connection is not held. fin: by a FIN of \
             either side.",
        ),
    value("tcp-hold", "TIME", Time)
        .place(Traffic, Load)
        .help("Time for which pings by tcp keep their connections open")
        .default(Default::Words("0"))
        .details(
            "In whole milliseconds. The ping itself is over when the connection is open; so many are open at once as are opened in \
             that time.",
        ),
    value("arp-request", "HOW", OneOf(ArpRequest::NAMES))
        .place(Traffic, Load)
        .help("Who is asked by pings by arp: broadcast or unicast")
        .default(Default::Words("broadcast"))
        .details(
            "broadcast: everybody, over IPv6 the group of the address. unicast: the one who is known to have the address, as a kernel \
             asks to verify a neighbour (RFC 1122, RFC 4861); the VM looks for that one first, as for other pings.",
        ),
    value("interval", "TIME", Time)
        .place(Traffic, Load)
        .short('i')
        .help("Time between two pings of a flow")
        .default(Default::Text("10ms"))
        .main(),
    value("rate", "R", Number)
        .place(Traffic, Load)
        .help("Pings per second over all flows, instead of --interval")
        .main()
        .details("Open loop: a slow reply delays no ping."),
    value("window", "W", Whole)
        .place(Traffic, Load)
        .help("Pings that each flow keeps outstanding, instead of --interval")
        .main()
        .details("Closed loop: the next ping is sent as soon as a reply arrives."),
    value("ramp", "FROM:TO:STEPS", Text)
        .place(Traffic, Load)
        .help("Raise the rate over the --duration in steps, instead of --rate")
        .details("Each step is a phase of its own in the report."),
    value("arrivals", "KIND", OneOf(&["uniform", "poisson"]))
        .place(Traffic, Load)
        .help("Spacing of the pings in time: uniform or poisson")
        .default(Default::Text("uniform"))
        .details("poisson is one process per flow with --interval, and one in total with --rate."),
    value("count", "N", Whole)
        .place(Traffic, Load)
        .short('c')
        .help("Pings of each flow")
        .default(Default::Words("no limit"))
        .main(),
    value("duration", "TIME", Time)
        .place(Traffic, Load)
        .help("Time after which sending, or serving, ends")
        .default(Default::Words("no limit"))
        .main(),
    switch("stay")
        .place(Traffic, Run)
        .help("Stay when the pings are over, until a signal ends the run")
        .details(
            "The VMs go on answering. Without pings they do so anyway. With --fabric sim, whose time ends with its \
             events, only beside --control or --metrics, which can be asked still.",
        ),
    value("warmup", "TIME", Time)
        .place(Traffic, Load)
        .help("Send for this long before anything is counted"),
    value("stagger", "TIME", Time)
        .place(Traffic, Load)
        .help("Start flows at random within this time; 0 starts all at once")
        .default(Default::Words("spread evenly over the --interval")),
    value("timeout", "TIME", Time)
        .place(Traffic, Run)
        .short('W')
        .help("Time to wait for a reply")
        .default(Default::Text("1s"))
        .main(),
    value("size", "BYTES", Sizes)
        .place(Traffic, Load)
        .short('s')
        .help("Payload of each ping; sizes of the frames of streams")
        .default(Default::Number(PAYLOAD_LENGTH as u64))
        .main()
        .details(
            "Of streams, frames with Ethernet header and frame check sequence, VLAN tags not counted; as short as they can be by \
             default. A number; 64-1518 for any of these; 64/594/1518 in turn; imix for 64, 594 and 1518, seven to four to one; or \
             the letters of RFC 6985 in turn: a to g are 64, 128, 256, 512, 1024, 1280 and 1518, h to j 2112, 9000 and 16000, z the \
             most that the MTU has room for.",
        ),
    value("ttl", "N", Whole)
        .place(Traffic, Run)
        .short('t')
        .help("Time to live (hop limit) of the pings")
        .default(Default::Number(DEFAULT_TIME_TO_LIVE as u64)),
    value("dscp", "N", Whole)
        .place(Traffic, Run)
        .help("Differentiated services code point of the pings, 0 to 63")
        .default(Default::Number(0)),
    switch("allow-fragmentation")
        .place(Traffic, Run)
        .help("Send pings larger than the MTU in fragments, up to 65507 bytes"),
    switch("dont-fragment")
        .place(Traffic, Run)
        .help("Set the don't-fragment bit of the pings"),
    value("name", "TEXT", Text)
        .place(Traffic, Phase)
        .help("Name of the phase in the report"),
    switch("mark")
        .place(Traffic, Phase)
        .help("The beginning of the phase is a mark of its name"),
    value("start", "VMS", Text)
        .place(Traffic, Phase)
        .help("VMs that start in the course of the phase; repeatable")
        .only(NOT_NONE)
        .repeatable()
        .details(
            "VMs (vmI, vm[I-J], a group or a number), a rate such as 100 per second, or both: \
             new at 100 per second.",
        ),
    value("stop", "VMS", Text)
        .place(Traffic, Phase)
        .help("VMs that stop in the course of the phase; repeatable")
        .only(NOT_NONE)
        .repeatable()
        .details(
            "VMs (vmI, vm[I-J], a group or a number), a rate such as 100 per second, or both: \
             new at 100 per second.",
        ),
    value("move", "VMS:PLACE[@TIME]", Text)
        .place(Traffic, Load)
        .help("Move a VM while others ping it, as 'vm3:leaf1@5s'; repeatable")
        .repeatable()
        .only(&["bridge", "sim"])
        .details(
            "PLACE: leafN, the name of a bridge, port (another one of the same bridge), netns:NAME (a namespace that the \
             program makes, with a bridge connected to the lab's) or back. TIME is that since the beginning of the phase. \
             Behind it, with commas: announce=garp (the default), rarp, na or none, count=N of them, interval=50ms between \
             them, every=100ms between the moves of --repeat; outage=TIME with --fabric sim. The report tells for how long \
             each flow got no answer, and what ended that.",
        ),
    value("repeat", "N", Whole)
        .place(Traffic, Load)
        .help("Moves of each --move, there and back, so many in all")
        .only(&["bridge", "sim"])
        .default(Default::Number(1)),

    // Addresses.
    value("subnet", "CIDR", Text)
        .place(Addresses, Run)
        .help("IPv4 network of the VMs")
        .default(Default::Made(|| {
            format!("{SUBNET}; {LARGE_SUBNET} for more than {MOST_IN_SUBNET} VMs")
        })),
    value("first", "IP", Text)
        .place(Addresses, Run)
        .help("Address of vm0; the others follow; one IPv4 and one IPv6 address")
        .repeatable()
        .default(Default::Words("network address + 2")),
    value("mac", "vmI=MAC", Text)
        .place(Addresses, Run)
        .help("MAC address of one VM; repeatable")
        .repeatable()
        .default(Default::Words("02:00 and the IPv4 address")),
    switch("ipv6")
        .place(Addresses, Run)
        .help("VMs speak IPv6 too: a link-local address and one of --subnet6"),
    value("subnet6", "CIDR", Text)
        .place(Addresses, Run)
        .help("IPv6 network of the VMs")
        .default(Default::Text("fd77::/64")),
    switch("slaac")
        .place(Addresses, Run)
        .help("VMs take IPv6 addresses from router advertisements (RFC 4862)")
        .details("They take a default router from them as well."),
    switch("dhcp")
        .place(Addresses, Run)
        .help("VMs get their IPv4 addresses from a DHCP server on the bridge"),
    switch("dhcp6")
        .place(Addresses, Run)
        .help("VMs get their IPv6 addresses from a DHCP server on the bridge")
        .details(
            "DHCPv6 (RFC 8415). VMs have no address of --subnet6 then. On-link prefixes and default \
             routers come from router advertisements, further addresses with --slaac.",
        ),
    switch("dad")
        .place(Addresses, Run)
        .help("VMs probe for duplicates of their addresses before they use them")
        .details(
            "Address conflict detection (RFC 5227) takes 4 to 7 seconds, duplicate address \
             detection (RFC 4862) 1 to 2. The VMs announce their addresses afterwards. On by \
             default with --join.",
        ),
    value("address-wait", "TIME", Time)
        .place(Addresses, Run)
        .help("Longest time pings wait for VMs without an address")
        .default(Default::Time(ADDRESS_WAIT))
        .details(
            "Applies to --dhcp, --dhcp6, --dad and --slaac. Afterwards pings start without the VMs \
             that have no address.",
        ),
    value("gateway", "IP", Text)
        .place(Addresses, Run)
        .help("Router for other networks; one IPv4 and one IPv6 address")
        .repeatable(),
    value("host-address", "CIDR", Text)
        .place(Addresses, Run)
        .help("Address of the host on the bridge, such as 10.77.0.1/16")
        .only(&["bridge"])
        .repeatable()
        .details("One IPv4 and one IPv6 address. With it the host can talk to the VMs."),
    value("resolve", "HOW", OneOf(&["before", "at-once", "static", "proxy"]))
        .place(Addresses, Run)
        .help("How VMs learn the MAC addresses of their neighbours")
        .default(Default::Words("before; proxy or static where that would take more than a second"))
        .details(
            "before: by ARP or neighbour discovery before the first ping, a few at a time. \
             at-once: when their pings are due. static: tables are filled in, and nobody asks. \
             proxy: they ask, and the bridge answers (IPv4 without VLANs).",
        ),
    value("vlan", "[VMS=]ID[.ID]", Text)
        .place(Addresses, Run)
        .help("VLAN of all VMs or of some; repeatable")
        .repeatable()
        .details(
            "For example 100, vm0=100 or vm[0-4]=100. Two numbers are a service and a customer \
             VLAN (QinQ): 100.200.",
        ),

    // Fabric.
    value("fabric", "KIND", OneOf(&["bridge", "xdp", "none", "interface", "sim"]))
        .place(Fabric, Run)
        .help("What carries the frames")
        .default(Default::Text("bridge"))
        .main()
        .details(
            "bridge: a Linux bridge. xdp: an XDP program on each TAP; faster, needs root. none: \
             TAPs only, for another switch; see --hook. interface: what is behind interfaces that exist; see --interface. sim: a switch in memory, in virtual \
             time, without TAPs or privileges.",
        ),
    value("bridge", "NAME", Text)
        .place(Fabric, Run)
        .help("Name of the bridge")
        .only(&["bridge"])
        .default(Default::Text(DEFAULT_BRIDGE)),
    value("tap-prefix", "PREFIX", Text)
        .place(Fabric, Run)
        .help("Prefix of the TAPs' names; the TAP of vmI is PREFIX and I")
        .only(TAPS)
        .default(Default::Text(DEFAULT_TAP_PREFIX)),
    value("mtu", "BYTES", Whole)
        .place(Fabric, Run)
        .help("Largest IP datagram on the links")
        .default(Default::Number(DEFAULT_MTU as u64))
        .details("With --join, the default is the MTU of the bridge."),
    value("hook", "COMMAND", Text)
        .place(Fabric, Run)
        .help("Command to run when all TAPs exist, and before they are removed")
        .only(&["none"])
        .details(
            "TAP_REACTOR_EVENT is up or down in its environment, TAP_REACTOR_TAPS the names of \
             the TAPs.",
        ),
    value("ports-per-bridge", "N", Whole)
        .place(Fabric, Run)
        .help("VMs on one bridge; more form a tree of bridges")
        .only(&["bridge"])
        .default(Default::Number(DEFAULT_PORTS_PER_BRIDGE as u64)),
    value("uplink", "IFACE", Text)
        .place(Fabric, Run)
        .help("Connect the bridge to what is behind a network interface")
        .only(&["bridge"])
        .details(
            "A network card, a veth or a VXLAN device of the namespace that the program is started in, which is up and has no \
             addresses. It stays there as it is, and a port of the bridge stands on it (macvlan, passthru) while the lab lives. \
             Needs root.",
        ),
    value("interface", "[VMS=]IFACE[,bridge]", Text)
        .place(Fabric, Run)
        .help("Put VMs directly behind a network interface; repeatable")
        .repeatable()
        .only(&["interface"])
        .details(
            "Such as 'vm[0-49]=eth1'; without VMS, all of them. It is up, and stays where it is and as it is: the host goes on using \
             its addresses. VMs behind one interface reach each other if the switch sends their frames back (VEPA), or, with ,bridge, \
             within the program. Needs root.",
        ),
    value("underlay", "vxlan:VNI,PEERS", Text)
        .place(Fabric, Run)
        .help("Connect the labs of several hosts by a VXLAN")
        .only(&["bridge"])
        .details(
            "vxlan:VNI,PEER[,PEER…] with the addresses or names of the hosts, that of each host itself among them; in the order \
             of the ranks, each knows where every VM is. Or vxlan:VNI,group=239.1.1.1,dev=eth0. Pings begin when frames of all \
             ranks have come through. Needs root.",
        ),
    value("txqueuelen", "FRAMES", Whole)
        .place(Fabric, Run)
        .help("Frames that wait for a VM before more are dropped")
        .default(Default::Words("1000, of a simulation no limit")),
    value("filter", "auto|on|off", OneOf(&["auto", "on", "off"]))
        .place(Fabric, Run)
        .help("Have the kernel drop frames that a VM's network card would drop")
        .implies("on")
        .default(Default::Text("auto"))
        .details(
            "Such as ARP requests for others, before tcpdump sees them on the TAP. auto: where that \
             saves more time than the filter takes with every ping.",
        ),
    value("impair", "IMPAIRMENT", Text)
        .place(Fabric, Load)
        .help("Delay, lose or change frames, as 'vm3:delay=5ms'; repeatable")
        .repeatable()
        .details(
            "[VMS:][out:|in:]WHAT,… VMS: vmI, vm[I-J], all, a group, or two of them with > between for the frames from one \
             to the other. Frames from a VM (out) are meant unless in is said. WHAT: delay=5ms, delay=5ms±1ms (or +-), \
             with uniform, normal or pareto behind; loss=1%, loss=gemodel 1% 10%, every=100; reorder, duplicate and \
             corrupt=0.1%; rate=10Mbit, queue=100; none. Of several that fit a frame the last is applied. A phase has its \
             own in place of those of the run.",
        ),
    value("misbehave", "VMS:WHAT", Text)
        .place(Fabric, Load)
        .help("Make a VM a bad neighbour, as 'vm9:silent@5s+2s'; repeatable")
        .repeatable()
        .details(
            "VMS:WHAT[@TIME][+TIME]: vmI, vm[I-J] or a group; from when on in its phase, and for how long, which is the whole \
             phase by default. WHAT: silent, slow 50ms, flap 1s/100ms, steal 10.77.0.2, wrong-mac; loop, arp-flood, \
             broadcast, nd-flood 1000/s, mac-flood 10000/s, dhcp-starve 100/s, ra-rogue 1/s. The report tells response before, during and \
             after. Only in a namespace that the run makes: --netns private, or a new name. A phase has its own in place of \
             those of the run.",
        ),
    switch("vlan-filtering")
        .place(Fabric, Run)
        .help("Each port of the bridge carries the VLAN of its VM only")
        .only(&["bridge"]),

    // Output.
    value("output", "FILE", Path)
        .place(Output, Scope::Output)
        .short('o')
        .help("Write the report to a file; the ending says the format; repeatable")
        .repeatable()
        .main()
        .more(|| format!("Endings: {}.", Format::help())),
    value("expect", "EXPECTATION", Text)
        .place(Output, Scope::Output)
        .help("Check a figure, such as 'p99<200us'; repeatable")
        .repeatable()
        .main()
        .more(|| {
            format!(
                "For example 'response.p99.9<2ms', 'loss<0.1%' or 'rate>5000': {}. The exit status is 1 if one does not \
                 hold.",
                expect::expected_figures()
            )
        }),
    value("capture", "FILE", Path)
        .place(Output, Scope::Output)
        .help("Write all frames to a pcapng file; - is standard output")
        .main()
        .details(
            "For Wireshark and tshark: an interface for each VM, and a comment for each frame that says what it means in \
             the run, such as 'ping 3 of vm0 → vm9: no answer in time'. A pipe or a FIFO is read while the run goes on. With -, \
             the report goes to standard error. Each of several ranks writes a file, with its number in place of {} in the name.",
        ),
    value("capture-comments", "on|off", OneOf(&["on", "off"]))
        .place(Output, Scope::Output)
        .help("Comments in the capture, which take time for each frame")
        .default(Default::Text("on")),
    value("capture-snap", "BYTES", Whole)
        .place(Output, Scope::Output)
        .help("Bytes that the capture keeps of each frame")
        .default(Default::Words("all")),
    value("capture-vms", "VMS", Kind::Vms)
        .place(Output, Scope::Output)
        .help("VMs whose frames are captured: vmI, vm[I-J] or a group")
        .default(Default::Words("all")),
    value("capture-limit", "SIZE[*FILES]", Text)
        .place(Output, Scope::Output)
        .help("Size of the capture, such as 100M, or 100M*5 for a ring of files")
        .default(Default::Words("no limit"))
        .details(
            "Of a ring, FILE.1.pcapng and so on, the last files are kept. Without a number of files the capture ends at its \
             limit, and the run goes on.",
        ),
    value("capture-on-loss", "FRAMES", Whole)
        .place(Output, Scope::Output)
        .help("Capture only so many frames before and after each failed ping")
        .details(
            "That is one that was lost, late or corrupt, or that not every member of its group answered. Frames are \
             kept in memory while a ping before them may fail: about 370,000 of ordinary pings in 64 MiB, and more with \
             --capture-snap.",
        ),
    value("trace", "FILE", Path)
        .place(Output, Scope::Output)
        .help("Write every event to a file, one JSON object a line")
        .details(
            "The events that -v tells of: VM, flow, ping, time and kind. 'schema trace' prints what a line may have. - is \
             standard output, and {} the number of a rank, as for --capture.",
        ),
    value("control", "PATH|tcp:ADDR:PORT", Path)
        .place(Output, Scope::Output)
        .help("Listen for requests while the lab lives; repeatable")
        .repeatable()
        .details(
            "At a Unix socket, or at a TCP port where the user is. HTTP and JSON, for 'curl --unix-socket PATH http://lab/': \
             state, VMs, flows, report and events, and changes of all of them. At a Unix socket only the same user and root \
             are served. Over TCP a token is needed, and no files are written; port 0 is one that is free, which is told. \
             'schema control' describes the requests.",
        ),
    value("control-token-file", "FILE", Path)
        .place(Output, Scope::Output)
        .help("The token that clients over TCP need")
        .default(Default::Words("the environment variable TAP_REACTOR_TOKEN"))
        .details(
            "A line of 16 characters or more, as 'openssl rand -hex 32' prints it, in a file that only its owner can read.",
        ),
    switch("control-insecure")
        .place(Output, Scope::Output)
        .help("Let others of the network control the lab, unencrypted")
        .details(
            "Needed for --control tcp:ADDR:PORT where the address is not loopback: token, requests and responses can be read on \
             their way, and who reads the token controls the lab.",
        ),
    value("metrics", "ADDR:PORT", Text)
        .place(Output, Scope::Output)
        .help("Serve the metrics for Prometheus at a TCP port; repeatable")
        .repeatable()
        .details(
            "GET /metrics and nothing else, for all who reach the address, such as 127.0.0.1:9100. Port 0 is one that is free, \
             which is told.",
        ),
    value("mark-on", "CHANGE", Text)
        .place(Output, Run)
        .help("Set a mark when others change a link or a route; repeatable")
        .repeatable()
        .only(REAL)
        .details(
            "link: a link of the lab. route: a route in its network namespace, but for those that the kernel makes by itself. \
             Both: link,route. From a mark on it is measured how long pings take to pass, or no longer to.",
        ),
    value("attribute-loss", "HOW", OneOf(&["auto", "on", "off"]))
        .place(Output, Run)
        .help("Find out where lost pings were lost, and why")
        .default(Default::Text("auto"))
        .details(
            "auto: the kernel tells of the frames that it drops where it does (root, and a kernel with BTF); elsewhere it is \
             found out from counters and the states of ports. on: refuse to run where the kernel does not tell. The report \
             says which it was.",
        ),
    value("path-split", "COUNT|off", Whole)
        .place(Output, Run)
        .help("Stamp COUNT pings after the run, to tell where their time goes")
        .implies("1000")
        .only(&["bridge"])
        .details(
            "The way of a frame through the kernel in stages: copy-in, bridge, queueing discipline, queue of the TAP, wake-up, \
             copy-out, and what is ours. The flows of the last phase ping once more, as many without stamps and then COUNT with \
             them; no figure of the run has these. At most 50,000; needs root. XDP has none of these stages.",
        ),
    switch("one-way")
        .place(Output, Run)
        .help("Measure the way there and the way back of pings apart")
        .details(
            "Histograms forward and backward, by one clock, of flows whose ends are both VMs of the run. Takes one clock reading a \
             ping more. Refused of pings between ranks that --cores has not started: these may have several clocks.",
        ),
    switch("count-floods")
        .place(Output, Scope::Output)
        .help("Count the copies of broadcasts, multicasts and unknown unicasts")
        .details(
            "To how many VMs each came, how many copies were not for them, and how late the last one was. Filters before the VMs \
             are off then.",
        ),
    switch("json")
        .place(Output, CommandLine)
        .help("Print the report as one JSON document on standard output")
        .main(),
    switch("verbose")
        .place(Output, Scope::Output)
        .help("Trace every step on standard error")
        .short('v')
        .main(),
    switch("quiet")
        .place(Output, CommandLine)
        .help("Print only errors and expectations that do not hold")
        .short('q')
        .main(),
];
