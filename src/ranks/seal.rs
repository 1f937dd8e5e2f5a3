//! Authentication of the ranks' messages: HMAC-SHA256 (RFC 2104) by a shared secret. Nothing is encrypted.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a nonce.
pub const NONCE: usize = 16;
/// Bytes of an authentication code.
pub const CODE: usize = 32;

/// Numbers that a process uses once, for one connection.
pub type Nonce = [u8; NONCE];

/// The direction of what is authenticated, so that nobody's own words can be sent back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Rank 0.
    Leader,
    /// Any other rank.
    Member,
}

impl Side {
    const fn word(self) -> &'static [u8] {
        match self {
            Side::Leader => b"leader",
            Side::Member => b"member",
        }
    }
}

/// A secret that all ranks share; an empty one if they have none.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Secret {
        Secret(bytes)
    }
}

/// What a handshake is about: both nonces, and the words of the member (its rank, the number of ranks, the plan).
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The nonce of rank 0.
    pub leader: &'a Nonce,
    /// That of the member.
    pub member: &'a Nonce,
    /// The words of the member.
    pub words: &'a str,
}

impl Secret {
    /// Returns true if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What `purpose` makes of the subject.
    fn code(&self, purpose: &[u8], subject: Subject<'_>) -> [u8; CODE] {
        // The nonces have a fixed length, and the words are the rest.
        let parts = [
            purpose,
            b"|",
            subject.leader,
            subject.member,
            subject.words.as_bytes(),
        ];
        code(&self.0, &parts)
    }

    /// The proof of `side` that it knows the secret.
    pub fn proof(&self, side: Side, subject: Subject<'_>) -> [u8; CODE] {
        self.code(side.word(), subject)
    }

    /// The keys of what follows a handshake.
    pub fn session(&self, own: Side, subject: Subject<'_>) -> Session {
        Session {
            key: self.code(b"key", subject),
            own,
            sent: 0,
            received: 0,
        }
    }
}

fn code(key: &[u8], parts: &[&[u8]]) -> [u8; CODE] {
    // Any length of a key will do (RFC 2104, section 3).
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; CODE];
    };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Compares without telling by its time where two codes differ.
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    constant_time_eq::constant_time_eq(one, other)
}

/// One side of a connection after its handshake: each message is numbered and authenticated.
#[derive(Clone)]
pub struct Session {
    key: [u8; CODE],
    own: Side,
    sent: u64,
    received: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

impl Session {
    fn code(&self, side: Side, number: u64, text: &str) -> [u8; CODE] {
        let parts = [side.word(), b"|", &number.to_be_bytes(), text.as_bytes()];
        code(&self.key, &parts)
    }

    /// The line that carries `text`, which has no line end: its code, its number, and the text.
    pub fn seal(&mut self, text: &str) -> String {
        let code = self.code(self.own, self.sent, text);
        let line = format!("{} {} {text}\n", hex(&code), self.sent);
        self.sent += 1;
        line
    }

    /// The text of a line. `None` if the other side has not written it, or not as the next one.
    pub fn open<'l>(&mut self, line: &'l str) -> Option<&'l str> {
        let (code, rest) = line.split_once(' ')?;
        let (number, text) = rest.split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        let other = match self.own {
            Side::Leader => Side::Member,
            Side::Member => Side::Leader,
        };
        let expected = self.code(other, self.received, text);
        let is_next = number == self.received;
        if !is_next || !is_same(&expected, &unhex::<CODE>(code)?) {
            return None;
        }
        self.received += 1;
        Some(text)
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The inverse of [`hex`]; `None` if it is not so many bytes.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject<'_> = Subject {
        leader: &[1; NONCE],
        member: &[2; NONCE],
        words: "1 2 plan",
    };

    #[test]
    fn the_code_is_that_of_rfc_4231() {
        let found = code(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(&found), expected);
        assert_eq!(unhex::<CODE>(expected), Some(found));
    }

    #[test]
    fn a_message_is_taken_once_in_its_turn_and_from_the_other_side_only() {
        let secret = Secret::from(b"secret".to_vec());
        let mut leader = secret.session(Side::Leader, SUBJECT);
        let mut member = secret.session(Side::Member, SUBJECT);
        let lines = ["one", "two three"].map(|text| member.seal(text));
        let lines = lines.each_ref().map(|line| line.trim_end());
        assert_eq!(leader.open(lines[1]), None, "too early");
        assert_eq!(leader.open(lines[0]), Some("one"));
        assert_eq!(leader.open(lines[0]), None, "again");
        assert_eq!(member.open(lines[0]), None, "its own");
        assert_eq!(leader.open(&lines[1].replace("two", "TWO")), None);
        assert_eq!(leader.open(lines[1]), Some("two three"));
        let mut stranger = Secret::from(b"other".to_vec()).session(Side::Member, SUBJECT);
        let line = stranger.seal("x");
        assert_eq!(
            secret.session(Side::Leader, SUBJECT).open(line.trim_end()),
            None
        );
    }

    #[test]
    fn a_proof_is_of_one_side_one_connection_and_one_plan() {
        let secret = Secret::from(b"secret".to_vec());
        let proof = secret.proof(Side::Member, SUBJECT);
        assert_ne!(proof, secret.proof(Side::Leader, SUBJECT));
        for other in [
            Subject {
                leader: &[3; NONCE],
                ..SUBJECT
            },
            Subject {
                member: &[3; NONCE],
                ..SUBJECT
            },
            Subject {
                words: "2 2 plan",
                ..SUBJECT
            },
        ] {
            assert_ne!(proof, secret.proof(Side::Member, other));
        }
    }
}
