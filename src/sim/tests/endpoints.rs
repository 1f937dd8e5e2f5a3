//! VMs among themselves: neighbours that age, addresses that two of them want, and pings larger than the link.

use super::*;
use crate::record::DropReason;
use crate::vm::{Addressing, Ipv4Interface};
use crate::wire::{EchoRequest, Ipv4Envelope, MacAddr, write_fragment};

/// VMs of which each is told what `change` makes of its plan, and one flow from vm0 to vm1.
fn lab(
    vms: u32,
    delay: Duration,
    payload_length: usize,
    change: impl Fn(u32, &mut VmConfig),
) -> Lab {
    let mut lab = changed_lab(vms, delay, change);
    add_flow(&mut lab, 0, Target::Vm(VmId(1)), payload_length);
    lab
}

fn ping(lab: &mut Lab, interval: Duration, count: u64) -> Instant {
    let only = phase("", 1, Pacing::Interval(interval), Some(count), None);
    carry(lab, vec![only])
}

#[test]
fn a_neighbour_in_use_is_asked_again_and_nothing_is_lost_by_that() {
    let mut lab = lab(2, WIRE_DELAY, 56, |_, _| ());
    ping(&mut lab, Duration::from_secs(1), 200);
    let recorder = lab.hypervisor().recorder();
    assert_eq!(recorder.totals().received, 200);
    assert_eq!(
        recorder.latency(Metric::Resolution).count(),
        1,
        "it is resolved once"
    );
    // Requests and replies of the pings, of the first resolution, and of the checks, one every 20 to 51 s.
    let checks = (recorder.work().frames_out - 2 * 200 - 2) / 2;
    assert!((3..=10).contains(&checks), "{checks}");
}

#[test]
fn pings_begin_when_every_vm_has_probed_for_its_address() {
    let probe = |_, config: &mut VmConfig| config.ipv4.probe = true;
    let mut lab = lab(5, WIRE_DELAY, 56, probe);
    let end = ping(&mut lab, MS, 100);
    let totals = lab.hypervisor().recorder().totals();
    assert_eq!((totals.received, totals.failed()), (100, 0));
    // Three probes at least a second apart, and two seconds of silence.
    assert!(end >= Instant::from_nanos(4_000_000_000), "{end:?}");
    let late = lab.hypervisor().recorder().run().lateness().summary().max;
    assert!(
        late < Some(1_000_000),
        "the schedule begins with the addresses: {late:?}"
    );
}

#[test]
fn a_vm_that_gets_no_address_holds_the_others_up_for_a_while_and_no_longer() {
    for wait in [Duration::from_secs(2), Duration::ZERO] {
        let dhcp = |i: u32, config: &mut VmConfig| {
            if i == 2 {
                config.ipv4.addressing = Addressing::Dhcp;
            }
        };
        let mut lab = lab(3, WIRE_DELAY, 56, dhcp);
        lab.hypervisor().wait_for_addresses(wait);
        let end = ping(&mut lab, MS, 100);
        let recorder = lab.hypervisor().recorder();
        assert_eq!(recorder.totals().received, 100);
        let pinged = end - (Instant::ZERO + wait);
        assert!((99 * MS..200 * MS).contains(&pinged), "{wait:?}: {end:?}");
        let addresses = recorder.addresses();
        let waited = Duration::from_nanos(addresses.waited_ns);
        assert_eq!((waited, addresses.missing), (wait, 1));
        let late = recorder.run().lateness().summary().max;
        assert!(late < Some(1_000_000), "the schedule begins then: {late:?}");
    }
}

#[test]
fn an_address_that_a_vm_has_is_not_taken_by_another_that_probes() {
    let same = |i: u32, config: &mut VmConfig| {
        if i == 2 {
            config.ipv4.probe = true;
            config.ipv4.addressing = Addressing::Static(Ipv4Interface {
                address: "10.0.0.3".parse().unwrap(), // that of vm1
                prefix_length: 8,
                gateway: None,
            });
        }
    };
    let mut lab = lab(3, WIRE_DELAY, 56, same);
    ping(&mut lab, 10 * MS, 100);
    assert_eq!(lab.hypervisor().vm(VmId(2)).unwrap().address(), None);
    let recorder = lab.hypervisor().recorder();
    assert_eq!(recorder.totals().received, 100, "vm1 keeps it");
    let [conflict] = recorder.addresses().conflicts.as_slice() else {
        panic!("{:?}", recorder.addresses())
    };
    assert_eq!((conflict.vm.as_str(), conflict.times), ("vm2", 1));
}

#[test]
fn of_two_that_probe_for_one_address_at_once_not_both_take_it() {
    for seed in 0..50 {
        let same = |i: u32, config: &mut VmConfig| {
            *config = VmConfig::new(config.mac, "10.0.0.2".parse().unwrap());
            config.ipv4.probe = true;
            config.seed = seed * 100 + u64::from(i);
        };
        let mut lab = lab(2, WIRE_DELAY, 56, same);
        ping(&mut lab, MS, 1);
        let having = (0..2).filter(|&i| lab.hypervisor().vm(VmId(i)).unwrap().address().is_some());
        assert!(having.count() < 2, "seed {seed}");
        assert!(
            !lab.hypervisor().recorder().addresses().conflicts.is_empty(),
            "seed {seed}"
        );
    }
}

#[test]
fn a_ping_in_fragments_is_lost_if_any_of_them_is_and_never_comes_back_changed() {
    let pings = 5_000;
    let loss = 0.02;
    let profile = Profile {
        loss: Loss::Random(loss),
        duplicate: 0.05,
        delay: Some(Delay::constant(3 * MS)),
        reorder: 0.05,
        ..Profile::default()
    };
    // Three fragments each way.
    let mut lab = lab(2, WIRE_DELAY, 4_000, |_, _| ());
    impair(&mut lab, profile);
    ping(&mut lab, 100 * MS, pings);
    let totals = lab.hypervisor().recorder().totals();
    assert_eq!((totals.sent, totals.corrupt), (pings, 0));
    assert_eq!(totals.received + totals.lost, pings);
    // A fragment that comes twice may replace none that is lost, but it is no harm either: what counts is whether at
    // least one copy of each came.
    let one = 1.0 - loss;
    let truth = (pings as f64 * (1.0 - one.powi(6))) as u64;
    assert!(within(totals.lost, truth, 0.15), "{totals:?}, {truth} lost");
    let drops = lab.hypervisor().recorder().drops();
    assert_eq!(drops.get(DropReason::FragmentOverlap), 0);
    assert_eq!(drops.get(DropReason::ReassemblyFull), 0);
    // What never became whole is given up after half a minute, but for the last ones.
    let given_up = drops.get(DropReason::ReassemblyTimeout);
    assert!(
        given_up > 0 && given_up <= 2 * (totals.lost + totals.duplicate),
        "{given_up}"
    );
}

#[test]
fn fragments_of_all_vms_together_are_bounded() {
    let mut lab = lab(200, WIRE_DELAY, 56, |_, _| ());
    let (mut datagram, mut fragment) = (vec![0; 66_000], vec![0; 66_000]);
    let mut most = 0;
    for vm in 0..200 {
        let target = lab.hypervisor().vm(VmId(vm)).unwrap();
        let request = EchoRequest {
            envelope: Ipv4Envelope {
                source_mac: MacAddr([2, 0, 0, 0, 0, 9]),
                destination_mac: target.mac(),
                source: "10.9.9.9".parse().unwrap(),
                destination: target.address().unwrap(),
                time_to_live: 64,
                dscp: 0,
                dont_fragment: false,
                identification: 0,
            },
            identifier: 1,
            sequence: 1,
        };
        let length = request.write(65_000, |_| (), &mut datagram).unwrap();
        for identification in 0..100 {
            datagram[19] = identification;
            // The last one asks for the most memory.
            let cut = write_fragment(&datagram[..length], 43 * 1_480, 1_500, &mut fragment);
            let (length, _) = cut.unwrap();
            lab.hypervisor()
                .receive(Instant::ZERO, VmId(vm), &mut fragment, length);
        }
        let held = (0..200).map(|i| lab.hypervisor().vm(VmId(i)).unwrap().fragment_bytes());
        most = most.max(held.sum());
    }
    assert!(most > 200 << 20, "the bound is reached: {most}");
    assert!(most <= crate::hypervisor::MAX_FRAGMENT_BYTES, "{most}");
    assert!(
        lab.hypervisor()
            .recorder()
            .drops()
            .get(DropReason::ReassemblyFull)
            > 0
    );
}
