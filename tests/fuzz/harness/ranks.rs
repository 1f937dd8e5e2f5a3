//! Two ranks that meet, and whatever somebody sends to either of them: before the handshake as bytes, and behind it as messages
//! that are sealed as they should be.
//!
//! The input is a byte that says which, and how the bytes are cut, and then the bytes.

use std::time::Duration;

use tap_reactor::ranks::seal::{Nonce, Secret, Session, Side, Subject, hex};
use tap_reactor::ranks::{Event, Gate, Identity, Leader, Member, PeerId};
use tap_reactor::time::Instant;

/// For how long each side is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const OWN: Nonce = [1; 16];
const OTHER: Nonce = [2; 16];

fn identity(rank: &str) -> Identity {
    Identity {
        rank: rank.parse().expect("a rank"),
        plan: [7; 32],
        program: "0.1.0".to_owned(),
        host: "host".to_owned(),
    }
}

fn secret() -> Secret {
    Secret::from(b"a secret of ranks".to_vec())
}

fn session(side: Side) -> Session {
    let words = format!("1 0.1.0 1/2 {}", hex(&[7; 32]));
    let subject = Subject {
        leader: &OWN,
        member: &OTHER,
        words: &words,
    };
    secret().session(side, subject)
}

/// Nothing panics, what is held is bounded, what the user is told is a line, and who does not know the secret is no rank.
pub fn meet(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else {
        return;
    };
    let now = Instant::from_nanos(1_000_000_000);
    let mut leader = Leader::new(now, identity("0/2"), secret());
    let mut member = Member::new(now, identity("1/2"), secret(), OTHER);
    let peer = leader.accept(now, OWN).expect("room for one");
    let cut = 1 + usize::from(first >> 1);
    if first & 1 == 0 {
        for piece in bytes.chunks(cut) {
            leader.handle(now, peer, piece);
            member.handle(now, piece);
        }
        let met = check(&mut leader, &mut member, peer, now);
        assert!(!met, "somebody who does not know the secret is a rank");
        return;
    }
    // The handshake of a rank that knows the secret, and then of either side what the input has.
    exchange(&mut leader, &mut member, peer, now);
    let (mut to_leader, mut to_member) = (session(Side::Member), session(Side::Leader));
    // What they have said so far was numbered, too: sixteen questions and a last word, and as many answers.
    (0..17).for_each(|_| drop(to_leader.seal("")));
    (0..16).for_each(|_| drop(to_member.seal("")));
    leader.arrive(now, Gate::Bridges, PATIENCE);
    for line in String::from_utf8_lossy(bytes).lines() {
        let sealed = [to_leader.seal(line), to_member.seal(line)];
        for piece in sealed[0].as_bytes().chunks(cut) {
            leader.handle(now, peer, piece);
        }
        for piece in sealed[1].as_bytes().chunks(cut) {
            member.handle(now, piece);
        }
    }
    member.deliver(now, "what it has measured", PATIENCE);
    leader.deliver(now);
    check(&mut leader, &mut member, peer, now);
}

/// Carries what both say until they are silent.
fn exchange(leader: &mut Leader, member: &mut Member, peer: PeerId, now: Instant) {
    for _ in 0..100 {
        let (out, back) = (leader.transmit(peer).to_vec(), member.transmit().to_vec());
        leader.transmitted(peer, out.len());
        member.transmitted(back.len());
        member.handle(now, &out);
        leader.handle(now, peer, &back);
        if out.is_empty() && back.is_empty() {
            return;
        }
    }
    panic!("they talk without end");
}

/// Checks what came of it; returns true if one of them has met the other.
fn check(leader: &mut Leader, member: &mut Member, peer: PeerId, now: Instant) -> bool {
    // An answer to a question takes a few hundred bytes, and the input has some thousand.
    assert!(leader.transmit(peer).len() < 1 << 22);
    let later = now + Duration::from_secs(3600);
    leader.handle_timeout(later);
    member.handle_timeout(later);
    leader.handle_end(peer);
    member.handle_end();
    assert_eq!(member.timeout(), None);
    let events = std::iter::from_fn(|| leader.next_event());
    let events: Vec<Event> = events
        .chain(std::iter::from_fn(|| member.next_event()))
        .collect();
    for event in &events {
        if let Event::Failed(words) | Event::Refused(words) | Event::Stop { why: Some(words) } =
            event
        {
            assert!(
                !words.is_empty() && !words.contains(char::is_control),
                "{words:?}"
            );
        }
    }
    // A rank tells once what it has measured, or not at all.
    assert!(std::iter::from_fn(|| leader.next_delivery()).count() <= 1);
    events.contains(&Event::Met)
}
