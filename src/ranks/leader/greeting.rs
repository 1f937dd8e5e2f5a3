//! The hello of a rank, and why somebody is refused.

use super::super::Rank;
use super::super::message::VERSION;
use super::super::seal::{NONCE, Nonce, Side, Subject, hex, is_same, unhex};
use super::{Leader, PeerId, State};
use crate::escape::escaped;
use crate::time::Instant;

impl Leader {
    /// Takes a hello.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn greet(
        &mut self,
        now: Instant,
        id: PeerId,
        line: &str,
        leader: &Nonce,
    ) -> Result<(), String> {
        let stranger = || "it is no rank of this program".to_owned();
        let words: Vec<&str> = line.split(' ').collect();
        let ["hello", version, program, rank, plan, nonce, proof] = words[..] else {
            return Err(stranger());
        };
        if version != VERSION.to_string() || program != self.identity.program {
            let found = escaped(&format!("tap-reactor {program} (protocol {version})"));
            let own = &self.identity.program;
            return Err(format!(
                "it is {found}, and rank 0 is tap-reactor {own} (protocol {VERSION}); expected the same version"
            ));
        }
        let member = unhex::<NONCE>(nonce).ok_or_else(stranger)?;
        let said = format!("{version} {program} {rank} {plan}");
        let subject = Subject {
            leader,
            member: &member,
            words: &said,
        };
        let expected = self.secret.proof(Side::Member, subject);
        if !unhex::<32>(proof).is_some_and(|proof| is_same(&proof, &expected)) {
            return Err("it does not know the secret".to_owned());
        }
        // From here on it is one of ours, and what is wrong with it is wrong with the whole run.
        let rank: Rank = rank.parse().map_err(|_| stranger())?;
        let count = self.identity.rank.count();
        let why = if rank.count() != count {
            Some(format!(
                "rank {rank}: there are {count} ranks; expected N/{count}"
            ))
        } else if plan != hex(&self.identity.plan) {
            Some(format!(
                "the plan of rank {} is another than that of rank 0; expected the same command and scenario for all",
                rank.number()
            ))
        } else {
            None
        };
        if let Some(why) = why {
            self.fail(why.clone());
            return Err(why);
        }
        let index = (rank.number() as usize).checked_sub(1);
        let Some((index, other)) =
            index.and_then(|index| Some((index, self.ranks.get_mut(index)?)))
        else {
            return Err("rank 0 is here already".to_owned());
        };
        if other.peer.is_some() {
            return Err(format!("rank {} is here already", rank.number()));
        }
        (other.peer, other.heard_at) = (Some(id), now);
        let proof = self.secret.proof(Side::Leader, subject);
        let session = self.secret.session(Side::Leader, subject);
        if let Some(peer) = self.peers.get_mut(&id) {
            let welcome = format!("welcome {}\n", hex(&proof));
            peer.out.extend_from_slice(welcome.as_bytes());
            peer.state = State::Rank(index, session);
        }
        Ok(())
    }
}
