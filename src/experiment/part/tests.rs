use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::experiment::{Scenario, plan};
use crate::ranks::Rank;

fn planned(file: &str) -> Experiment {
    plan(&Scenario::parse("lab.toml", file).unwrap())
        .unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn part(whole: &Experiment, rank: &str) -> Experiment {
    let rank: Rank = rank.parse().unwrap();
    whole
        .clone()
        .of_rank(rank, Some(Sharing::First), None)
        .unwrap()
}

fn refusal(file: &str, rank: &str, sharing: Option<Sharing>) -> String {
    let rank: Rank = rank.parse().unwrap();
    planned(file)
        .of_rank(rank, sharing, None)
        .unwrap_err()
        .to_string()
}

/// The due times of the first pings of a phase's flows.
fn first_due(plan: &Experiment, phase: usize) -> Vec<(FlowPlan, Duration)> {
    let load = &plan.phases[phase].load;
    let flows = (0u32..).zip(load.flows.iter());
    flows
        .map(|(number, flow)| (plan.flows[flow.index()], load.first_expected(number)))
        .collect()
}

#[test]
fn rank_r_of_n_has_the_vms_from_its_share_to_the_next() {
    for (vms, ranks) in [
        (200, 2),
        (10, 3),
        (7, 7),
        (3, 5),
        (1, 1),
        (65_535, 4096),
        (1 << 20, 3),
    ] {
        let owners = Owners::new(vms, ranks, Vec::new());
        for rank in 0..ranks {
            let share = |rank: u32| (u64::from(rank) * u64::from(vms) / u64::from(ranks)) as u32;
            let (first, end) = (share(rank), share(rank + 1));
            for vm in [first, end.saturating_sub(1)] {
                if (first..end).contains(&vm) {
                    assert_eq!(owners.of(VmId(vm)), rank, "vm{vm} of {vms}, {ranks} ranks");
                }
            }
        }
    }
}

#[test]
fn a_pair_is_in_one_rank_where_the_shares_are_even() {
    let whole = planned("vms = 200\nping = 'pairs'\nwindow = 1\ncount = 5");
    for rank in ["0/2", "1/2"] {
        let part = part(&whole, rank);
        assert_eq!((part.flows.len(), part.own_vms()), (50, 100));
        for flow in &part.flows {
            let Target::Vm(target) = flow.target else {
                panic!("{flow:?}");
            };
            assert!(part.is_own(flow.source) && part.is_own(target));
        }
        assert!(part.part.unwrap().incoming.is_empty());
    }
}

#[test]
fn a_group_is_in_the_rank_that_it_chooses() {
    const FILE: &str = "
        ping = 'client:server'
        count = 3
        [[group]]
        name = 'server'
        rank = 1
        [[group]]
        name = 'client'
        vms = 9
    ";
    let whole = planned(FILE);
    let parts = ["0/2", "1/2"].map(|rank| part(&whole, rank));
    let owned =
        |part: &Experiment| -> Vec<u32> { (0..10).filter(|vm| part.is_own(VmId(*vm))).collect() };
    assert_eq!(owned(&parts[0]), [1, 2, 3, 4]);
    assert_eq!(owned(&parts[1]), [0, 5, 6, 7, 8, 9]);
    let [first, second] = parts.map(|part| (part.flows.len(), part.part.unwrap().incoming.len()));
    assert_eq!((first, second), ((4, 0), (5, 4)));
    let error = refusal(
        &FILE.replace("rank = 1", "rank = 2"),
        "0/2",
        Some(Sharing::First),
    );
    assert!(
        error.starts_with("rank = 2 of the group that begins with vm0: there are 2 ranks"),
        "{error}"
    );
    // As in one process, for one.
    assert!(planned(FILE).pins.len() == 1);
}

#[test]
fn what_ranks_cannot_divide_is_refused_with_the_reason() {
    use Sharing::First;
    for (file, sharing, expected) in [
        (
            "fabric = 'sim'",
            Some(First),
            "--fabric sim cannot be used with several ranks",
        ),
        (
            "ping = 'ring'\nstay = true",
            Some(First),
            "--stay cannot be used",
        ),
        (
            "ping = 'ring'\ntrace = 't.jsonl'",
            Some(First),
            "--trace cannot be used",
        ),
        (
            "ping = 'ring'\nverbose = true",
            Some(First),
            "--verbose cannot be used with several ranks: each rank would write to standard error; expected --trace",
        ),
        (
            "ping = 'ring'\ncount-floods = true",
            Some(First),
            "--count-floods cannot be used with several ranks: a flooded frame has copies in all of them",
        ),
        (
            "ping = 'ring'\nmetrics = '127.0.0.1:0'",
            Some(First),
            "--control and --metrics cannot be used",
        ),
        (
            "vms = 4\nping = 'ring'",
            None,
            "vm1 of rank 0 pings vm2 of rank 1: each rank has a lab of its own",
        ),
        (
            "vms = 4\nping = 'ring'\ndhcp = true",
            Some(First),
            "vm1 of rank 0 pings vm2 of rank 1: whose address a DHCP",
        ),
        (
            "vms = 4\njoin = ['239.1.1.1']\nping = 'vm0:239.1.1.1'",
            Some(First),
            "vm0 of rank 0 pings the group 239.1.1.1, which VMs of other ranks join",
        ),
        (
            "vms = 4\nping = 'ring'\nfabric = 'none'\nhook = 'true'\none-way = true",
            None,
            "vm1 of rank 0 pings vm2 of rank 1: both ways of a ping can't be told apart by two clocks (--one-way); expected --cores",
        ),
        (
            "vms = 4\n[[phase]]\nping = 'ring'\nduration = 1\nstop = 'vm2'",
            Some(First),
            "vm1 of rank 0 pings vm2 of rank 1: which starts or stops",
        ),
    ] {
        let error = refusal(file, "0/2", sharing);
        assert!(error.starts_with(expected), "{error}");
        if !file.contains("sim") {
            planned(file)
                .of_rank("0/1".parse().unwrap(), sharing, None)
                .unwrap();
        }
    }
    planned("vms = 4\nping = 'pairs'")
        .of_rank("1/2".parse().unwrap(), None, None)
        .unwrap();
}

#[test]
fn a_phase_in_which_a_rank_has_no_flows_has_no_end_of_its_own_there() {
    let whole = planned("vms = 4\nping = 'vm0:vm1'\ncount = 5");
    let idle = part(&whole, "1/2");
    assert_eq!(idle.phases[0].duration, None);
    assert!(idle.flows.is_empty());
    assert_eq!(idle.part.unwrap().all_pings, Some(5));
}

#[test]
fn what_must_agree_changes_the_hash_and_what_need_not_does_not() {
    let hash = |file: &str| planned(file).hash();
    let one = hash("vms = 4\nping = 'ring'");
    assert_eq!(
        one,
        hash("vms = 4\nping = 'ring'\nspin = '50us'\nbridge = 'br7'\nnetns = 'lab'")
    );
    for other in [
        "vms = 5",
        "seed = 1",
        "mtu = 900",
        "count = 3",
        "size = 99",
        "timeout = 2",
        "first = '10.77.0.9'",
    ] {
        let file = match other.starts_with("vms") {
            true => format!("{other}\nping = 'ring'"),
            false => format!("vms = 4\nping = 'ring'\n{other}"),
        };
        assert_ne!(one, hash(&file), "{other}");
    }
    // A rank has the hash of the whole.
    let whole = planned("vms = 4\nping = 'ring'");
    let hashes = ["0/2", "1/2"].map(|rank| part(&whole, rank).part.unwrap().hash);
    assert_eq!(hashes, [one; 2]);
    assert_eq!(one.to_string().len(), 64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each VM and each flow of a plan is in the part of one rank, as it is in the whole, and due when it is there.
    #[test]
    fn the_parts_of_all_ranks_are_the_plan_of_one_process(
        vms in 2u32..40,
        ranks in 1u32..9,
        pattern in prop_oneof![Just("ring"), Just("mesh"), Just("pairs"), Just("random:3"), Just("all:vm0"), Just("vm1:all")],
        pacing in prop_oneof![Just("interval = '7ms'"), Just("rate = 500"), Just("window = 3")],
        pinned in 0u32..9,
    ) {
        let pattern = if pattern == "random:3" && vms < 4 { "ring" } else { pattern };
        let groups = match pinned < ranks {
            true => format!("[[group]]\nname = 'a'\nvms = {}\nrank = {pinned}\n[[group]]\nvms = {}", vms / 2, vms - vms / 2),
            false => String::new(),
        };
        let number = match groups.is_empty() {
            true => format!("vms = {vms}"),
            false => String::new(),
        };
        let whole = planned(&format!("{number}\nping = '{pattern}'\n{pacing}\ncount = 4\n{groups}"));
        let mut owned = vec![0; vms as usize];
        let mut sent = Vec::new();
        let mut rate = 0.0;
        let mut pings = 0;
        for number in 0..ranks {
            let part = part(&whole, &format!("{number}/{ranks}"));
            prop_assert_eq!(&part.vms, &whole.vms);
            prop_assert_eq!(part.lab.tap_name(0), whole.lab.tap_name(0));
            let own: Vec<u32> = part.lab.own().collect();
            prop_assert_eq!(own.len(), part.own_vms());
            for vm in own {
                prop_assert!(part.is_own(VmId(vm)));
                owned[vm as usize] += 1;
                prop_assert_eq!(part.vm_config(vm as usize).unwrap().seed, whole.vm_config(vm as usize).unwrap().seed);
            }
            prop_assert!(part.flows.iter().all(|flow| part.is_own(flow.source)));
            let towards = |flow: &&FlowPlan| matches!(flow.target, Target::Vm(vm) if part.is_own(vm)) && !part.is_own(flow.source);
            let incoming: Vec<FlowPlan> = whole.flows.iter().filter(towards).copied().collect();
            prop_assert_eq!(&part.part.as_ref().unwrap().incoming, &incoming);
            if let (Pacing::Rate(share), false) = (part.phases[0].load.pacing, part.flows.is_empty()) {
                rate += share;
            }
            pings += part.planned_pings().unwrap_or(0);
            sent.extend(first_due(&part, 0));
        }
        prop_assert!(owned.iter().all(|ranks| *ranks == 1), "{:?}", owned);
        prop_assert_eq!(pings, whole.planned_pings().unwrap());
        if let Pacing::Rate(all) = whole.phases[0].load.pacing {
            prop_assert!((rate - all).abs() < 1e-6, "{} of {}", rate, all);
        }
        let key = |(flow, _): &(FlowPlan, Duration)| format!("{flow:?}");
        let mut expected = first_due(&whole, 0);
        expected.sort_by_key(key);
        sent.sort_by_key(key);
        let flows = |all: &[(FlowPlan, Duration)]| all.iter().map(|(flow, _)| *flow).collect::<Vec<_>>();
        prop_assert_eq!(flows(&sent), flows(&expected));
        if groups.is_empty() && pattern != "random:3" && pattern != "all:vm0" && pattern != "vm1:all" {
            prop_assert_eq!(sent, expected);
        }
    }
}
