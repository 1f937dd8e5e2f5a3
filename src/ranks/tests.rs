use std::time::Duration;

use proptest::prelude::*;

use super::seal::{Nonce, Secret};
use super::*;

#[test]
fn a_rank_is_written_as_it_is_read() {
    for text in ["0/1", "0/2", "1/2", "4095/4096"] {
        assert_eq!(text.parse::<Rank>().unwrap().to_string(), text);
    }
    for text in [
        "", "1", "2/2", "0/0", "-1/2", "a/b", "0/2/3", "0/4097", "1/",
    ] {
        assert!(text.parse::<Rank>().is_err(), "{text}");
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

fn at(millis: u64) -> Instant {
    Instant::from_nanos(1_000_000_000 + millis * 1_000_000)
}

fn identity(rank: &str) -> Identity {
    Identity {
        rank: rank.parse().unwrap(),
        plan: [7; 32],
        program: "0.1.0".to_owned(),
        host: format!("host{}", &rank[..1]),
    }
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    nonce
}

fn secret() -> Secret {
    Secret::from(b"a secret of ranks".to_vec())
}

/// A rank 0 and others, connected by wires that take no time, each cut after so many bytes.
struct Meeting {
    leader: Leader,
    members: Vec<(Option<PeerId>, Member, i64)>,
    now: Instant,
    cut: usize,
    leader_events: Vec<Event>,
    member_events: Vec<Vec<Event>>,
}

impl Meeting {
    fn new(ranks: u32, cut: usize) -> Meeting {
        let mut meeting = Meeting::of_leader(ranks, cut);
        for rank in 1..ranks {
            meeting.join(
                identity(&format!("{rank}/{ranks}")),
                secret(),
                i64::from(rank) * 1_000_000,
            );
        }
        meeting
    }

    fn of_leader(ranks: u32, cut: usize) -> Meeting {
        let leader = Leader::new(at(0), identity(&format!("0/{ranks}")), secret());
        Meeting {
            leader,
            members: Vec::new(),
            now: at(0),
            cut,
            leader_events: Vec::new(),
            member_events: Vec::new(),
        }
    }

    /// Connects a member whose clock differs by that much.
    fn join(&mut self, identity: Identity, secret: Secret, offset: i64) {
        let number = self.members.len() as u64;
        let member = Member::new(self.now, identity, secret, nonce(100 + number));
        let peer = self.leader.accept(self.now, nonce(number));
        self.members.push((peer, member, offset));
        self.member_events.push(Vec::new());
    }

    fn run(&mut self) {
        for _ in 0..100_000 {
            let mut is_quiet = true;
            for (index, (peer, member, offset)) in self.members.iter_mut().enumerate() {
                let here = Instant::from_nanos(self.now.as_nanos().wrapping_add_signed(-*offset));
                let Some(id) = *peer else {
                    continue;
                };
                let out: Vec<u8> = self
                    .leader
                    .transmit(id)
                    .iter()
                    .take(self.cut)
                    .copied()
                    .collect();
                self.leader.transmitted(id, out.len());
                let back: Vec<u8> = member.transmit().iter().take(self.cut).copied().collect();
                member.transmitted(back.len());
                is_quiet &= out.is_empty() && back.is_empty();
                member.handle(here, &out);
                self.leader.handle(self.now, id, &back);
                if self.leader.is_over(id) {
                    member.handle_end();
                    self.leader.handle_end(id);
                    *peer = None;
                }
                self.member_events[index].extend(std::iter::from_fn(|| member.next_event()));
            }
            self.leader_events
                .extend(std::iter::from_fn(|| self.leader.next_event()));
            if is_quiet {
                return;
            }
        }
        panic!("they talk without end");
    }

    fn arrive(&mut self, gate: Gate) {
        self.leader.arrive(self.now, gate, PATIENCE);
        for (_, member, _) in &mut self.members {
            member.arrive(self.now, gate, PATIENCE);
        }
        self.run();
    }

    fn pass_time(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        self.leader.handle_timeout(self.now);
        for (_, member, _) in &mut self.members {
            member.handle_timeout(self.now);
        }
        self.run();
    }

    fn deliveries(&mut self) -> impl Iterator<Item = Delivery> {
        std::iter::from_fn(|| self.leader.next_delivery())
    }

    fn take(&mut self) -> (Vec<Event>, Vec<Vec<Event>>) {
        let others = self.member_events.iter_mut().map(std::mem::take).collect();
        (std::mem::take(&mut self.leader_events), others)
    }
}

#[test]
fn ranks_meet_pass_gates_together_and_deliver_what_they_measured() {
    for cut in [13, 1_000, usize::MAX] {
        let mut meeting = Meeting::new(3, cut);
        meeting.run();
        assert_eq!(
            meeting.take(),
            (vec![Event::Met], vec![vec![Event::Met]; 2])
        );
        for gate in [
            Gate::Bridges,
            Gate::Labs,
            Gate::Phase(0),
            Gate::Phase(1),
            Gate::End,
        ] {
            meeting.leader.arrive(meeting.now, gate, PATIENCE);
            meeting.members[1].1.arrive(meeting.now, gate, PATIENCE);
            meeting.run();
            assert_eq!(
                meeting.take(),
                (vec![], vec![vec![]; 2]),
                "{gate:?}: one is not there"
            );
            meeting.members[0].1.arrive(meeting.now, gate, PATIENCE);
            meeting.run();
            let (own, others) = meeting.take();
            let [Event::Open { gate: opened, at }] = own[..] else {
                panic!("{own:?}");
            };
            assert_eq!(opened, gate);
            // Each rank by its own clock: rank 1 is a millisecond behind, rank 2 two.
            for (events, millis) in others.iter().zip([1, 2]) {
                let [
                    Event::Open {
                        gate: opened,
                        at: there,
                    },
                ] = events[..]
                else {
                    panic!("{events:?}");
                };
                assert_eq!(opened, gate);
                assert_eq!(at.nanos_since(there), millis * 1_000_000);
            }
        }
        let documents = ["é".repeat(40_000), "short".to_owned()];
        for (document, (_, member, _)) in documents.iter().zip(&mut meeting.members) {
            member.deliver(meeting.now, document, PATIENCE);
        }
        meeting.leader.deliver(meeting.now);
        meeting.run();
        assert_eq!(
            meeting.take(),
            (vec![Event::Delivered], vec![vec![Event::Delivered]; 2])
        );
        let mut delivered: Vec<_> = meeting.deliveries().collect();
        delivered.sort_by_key(|delivery| delivery.rank);
        for (rank, (delivery, document)) in (1..).zip(delivered.iter().zip(documents)) {
            assert_eq!(
                (delivery.rank, delivery.host.clone()),
                (rank, format!("host{rank}"))
            );
            assert_eq!(delivery.clock.nanos, i64::from(rank) * 1_000_000);
            assert_eq!(delivery.document, document);
        }
    }
}

#[test]
fn a_stop_of_one_rank_is_one_of_all() {
    for stopped in 0..3 {
        let mut meeting = Meeting::new(3, usize::MAX);
        meeting.run();
        meeting.arrive(Gate::Labs);
        meeting.take();
        match stopped {
            0 => meeting.leader.stop(),
            number => meeting.members[number - 1].1.stop(None),
        }
        meeting.run();
        let (own, others) = meeting.take();
        let stop = Event::Stop { why: None };
        assert_eq!(own.len(), usize::from(stopped != 0));
        assert!(
            own.iter()
                .chain(others.iter().flatten())
                .all(|event| *event == stop)
        );
        assert!(others.iter().all(|events| events.len() == 1), "{others:?}");
    }
}

#[test]
fn a_run_that_is_stopped_has_the_last_gate_left_and_waits_there_for_who_is_not_gone() {
    for is_third_gone in [false, true] {
        let mut meeting = Meeting::new(3, usize::MAX);
        meeting.run();
        meeting.arrive(Gate::Labs);
        // The first rank waits for a phase, the second is told to end, the third is in the run.
        meeting.leader.arrive(meeting.now, Gate::Phase(0), PATIENCE);
        meeting.members[0].1.stop(None);
        meeting.members[0]
            .1
            .arrive(meeting.now, Gate::End, PATIENCE);
        meeting.run();
        meeting.take();
        meeting.leader.arrive(meeting.now, Gate::End, PATIENCE);
        meeting.run();
        assert_eq!(meeting.take(), (vec![], vec![vec![]; 2]), "one has pings");
        match is_third_gone {
            true => {
                let peer = meeting.members[1].0.take().unwrap();
                meeting.leader.handle_end(peer);
                meeting.pass_time(0);
            }
            false => {
                let third = &mut meeting.members[1].1;
                third.arrive(meeting.now, Gate::Phase(0), PATIENCE);
                third.arrive(meeting.now, Gate::End, PATIENCE);
            }
        }
        meeting.run();
        let (own, others) = meeting.take();
        let is_open = |events: &[Event]| {
            let open = events.iter().filter_map(|event| match event {
                Event::Open { gate, .. } => Some(*gate),
                _ => None,
            });
            open.collect::<Vec<_>>() == [Gate::End]
        };
        assert!(is_open(&own) && is_open(&others[0]), "{own:?} {others:?}");
        assert_eq!(is_open(&others[1]), !is_third_gone, "{others:?}");
    }
}

#[test]
fn a_rank_that_has_failed_is_named_with_the_reason() {
    let mut meeting = Meeting::new(3, usize::MAX);
    meeting.run();
    meeting.arrive(Gate::Labs);
    meeting.take();
    meeting.members[1].1.stop(Some("add tap7: no\nroom"));
    meeting.run();
    let (own, others) = meeting.take();
    let why = "rank 2 on host2 has ended the run: add tap7: no\\nroom".to_owned();
    assert_eq!(own, [Event::Failed(why.clone())]);
    assert_eq!(others[0], [Event::Stop { why: Some(why) }]);
}

#[test]
fn a_rank_that_is_gone_is_named_with_its_phase_and_the_others_end() {
    let mut meeting = Meeting::new(3, usize::MAX);
    meeting.run();
    meeting.arrive(Gate::Labs);
    meeting.members[1].1.set_phase("phase \"load\"");
    meeting.pass_time(1_000);
    meeting.take();
    let peer = meeting.members[1].0.take().unwrap();
    meeting.leader.handle_end(peer);
    meeting.run();
    let (own, others) = meeting.take();
    let why = "rank 2 on host2 is gone in phase \"load\": its connection has ended".to_owned();
    assert_eq!(own, [Event::Failed(why.clone())]);
    assert_eq!(others[0], [Event::Stop { why: Some(why) }]);
    // Those that live are still heard.
    meeting.members[0].1.deliver(meeting.now, "mine", PATIENCE);
    meeting.leader.deliver(meeting.now);
    meeting.run();
    assert_eq!(meeting.take().0, [Event::Delivered]);
    let documents = meeting.deliveries().map(|each| each.document);
    assert_eq!(documents.collect::<Vec<_>>(), ["mine"]);
}

#[test]
fn every_wait_has_an_end() {
    // Nobody comes.
    let mut meeting = Meeting::of_leader(2, usize::MAX);
    meeting.pass_time(61_000);
    let why = "rank 1 did not come to the meeting point in time".to_owned();
    assert_eq!(meeting.take().0, [Event::Failed(why)]);
    // A lab is not made.
    let mut meeting = Meeting::new(2, usize::MAX);
    meeting.run();
    meeting.take();
    meeting.leader.arrive(meeting.now, Gate::Labs, PATIENCE);
    assert!(meeting.leader.timeout().is_some());
    meeting.pass_time(61_000);
    let why = "rank 1 did not make its lab in time".to_owned();
    assert_eq!(meeting.take().0, [Event::Failed(why)]);
    // Silence in a run, on either side.
    let mut meeting = Meeting::new(2, usize::MAX);
    meeting.run();
    meeting.arrive(Gate::Labs);
    meeting.take();
    let peer = meeting.members[0].0.take();
    for _ in 0..21 {
        meeting.pass_time(1_000);
    }
    let words = "it has said nothing for 20s";
    assert!(
        matches!(&meeting.take().0[..], [Event::Failed(why)] if why.ends_with(words)),
        "{peer:?}"
    );
    let member = &mut meeting.members[0].1;
    let failed = std::iter::from_fn(|| member.next_event()).last();
    assert_eq!(
        failed,
        Some(Event::Failed("rank 0 has said nothing for 20s".to_owned()))
    );
    assert_eq!(member.timeout(), None);
    // What was measured does not come.
    let mut meeting = Meeting::new(2, usize::MAX);
    meeting.run();
    meeting.arrive(Gate::Labs);
    meeting.arrive(Gate::End);
    meeting.take();
    meeting.leader.deliver(meeting.now);
    for _ in 0..31 {
        meeting.pass_time(1_000);
    }
    let why = "rank 1 did not tell what it has measured in time".to_owned();
    assert_eq!(meeting.take().0, [Event::Failed(why), Event::Delivered]);
}

#[test]
fn who_does_not_belong_here_is_refused_in_one_line_on_each_side() {
    let other = |change: fn(&mut Identity)| {
        let mut other = identity("1/2");
        change(&mut other);
        other
    };
    let bad = Secret::from(b"another secret".to_vec());
    for (who, secret, words, is_ours) in [
        (identity("1/2"), bad, "it does not know the secret", false),
        (
            identity("1/2"),
            Secret::from(Vec::new()),
            "it does not know the secret",
            false,
        ),
        (
            other(|it| it.plan = [8; 32]),
            secret(),
            "the plan of rank 1 is another than that of rank 0",
            true,
        ),
        (
            identity("1/3"),
            secret(),
            "rank 1/3: there are 2 ranks",
            true,
        ),
        (identity("0/2"), secret(), "rank 0 is here already", false),
    ] {
        let mut meeting = Meeting::of_leader(2, usize::MAX);
        meeting.join(who, secret, 0);
        meeting.run();
        let (own, others) = meeting.take();
        let told: Vec<&String> = own
            .iter()
            .filter_map(|event| match event {
                Event::Refused(words) | Event::Failed(words) => Some(words),
                _ => None,
            })
            .collect();
        assert!(told.iter().all(|told| told.contains(words)), "{told:?}");
        assert_eq!(
            own.iter().any(|event| matches!(event, Event::Failed(_))),
            is_ours,
            "{own:?}"
        );
        let [Event::Failed(told)] = &others[0][..] else {
            panic!("{others:?}");
        };
        assert!(
            told.starts_with("rank 0 refuses this rank: ") && told.contains(words),
            "{told}"
        );
    }
    // Another version is told by the one that hears of it first.
    let mut meeting = Meeting::of_leader(2, usize::MAX);
    meeting.join(other(|it| it.program = "0.2.0".to_owned()), secret(), 0);
    meeting.run();
    let expected = "rank 0 is tap-reactor 0.1.0 (protocol 1), and this is tap-reactor 0.2.0 (protocol 1); expected the same \
                    version";
    assert_eq!(meeting.take().1[0], [Event::Failed(expected.to_owned())]);
    // The second one of a rank.
    let mut meeting = Meeting::new(3, usize::MAX);
    meeting.join(identity("1/3"), secret(), 0);
    meeting.run();
    assert_eq!(
        meeting.take().1[2],
        [Event::Failed(
            "rank 0 refuses this rank: rank 1 is here already".to_owned()
        )]
    );
}

#[test]
fn a_stranger_has_two_seconds_and_four_kilobytes() {
    let greeting = |leader: &mut Leader, id: PeerId| {
        let words = String::from_utf8(leader.transmit(id).to_vec()).unwrap();
        leader.transmitted(id, words.len());
        words
    };
    for (sent, expected) in [
        (
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            "refused it is no rank of this program\n",
        ),
        (b"hello\n", "refused it is no rank of this program\n"),
        (&[0xff, b'\n'], "refused it does not speak as ranks do\n"),
        (
            &[b'x'; 5000],
            "refused it sent too much before it said who it is\n",
        ),
        (b"", "refused it did not say in time who it is\n"),
    ] {
        let mut leader = Leader::new(at(0), identity("0/2"), secret());
        let id = leader.accept(at(0), nonce(1)).unwrap();
        assert!(greeting(&mut leader, id).starts_with("tap-reactor-ranks 1 0.1.0 "));
        leader.handle(at(0), id, sent);
        leader.handle_timeout(at(1_999));
        leader.handle_timeout(at(2_000));
        assert_eq!(greeting(&mut leader, id), expected);
        assert!(leader.is_over(id));
        let told = leader.next_event();
        assert!(matches!(told, Some(Event::Refused(_))), "{told:?}");
        assert_eq!(leader.next_event(), None);
    }
    // Very many of them take neither memory nor the user's time.
    let mut leader = Leader::new(at(0), identity("0/2"), secret());
    let taken = (0..1000).filter_map(|number| leader.accept(at(0), nonce(number)));
    assert_eq!(taken.count(), 64);
    leader.handle_timeout(at(2_000));
    assert_eq!(std::iter::from_fn(|| leader.next_event()).count(), 8);
}

proptest! {
    /// Whatever is sent, however it is cut: nobody who does not know the secret is taken for a rank, and nothing panics.
    #[test]
    fn whatever_a_stranger_sends_it_is_no_rank(bytes: Vec<u8>, cut in 1usize..40) {
        let mut leader = Leader::new(at(0), identity("0/2"), secret());
        let id = leader.accept(at(0), nonce(1)).unwrap();
        let mut member = Member::new(at(0), identity("1/2"), secret(), nonce(2));
        for piece in bytes.chunks(cut) {
            leader.handle(at(1), id, piece);
            member.handle(at(1), piece);
        }
        leader.handle_end(id);
        let events: Vec<Event> = std::iter::from_fn(|| leader.next_event())
            .chain(std::iter::from_fn(|| member.next_event()))
            .collect();
        prop_assert!(events.iter().all(|event| matches!(event, Event::Refused(_) | Event::Failed(_))));
    }
}
