//! What launchers tell a process of its place among others, by variables of its environment.

use super::{MAX_RANKS, Rank};

/// The variables of each launcher: the number of the rank, and how many there are.
const LAUNCHERS: [(&str, &str, &str); 4] = [
    ("Slurm", "SLURM_PROCID", "SLURM_NTASKS"),
    ("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MPICH's hydra", "PMI_RANK", "PMI_SIZE"),
    ("torchrun", "RANK", "WORLD_SIZE"),
];

/// That of a Kubernetes Indexed Job, which does not tell how many there are.
const INDEX: &str = "JOB_COMPLETION_INDEX";

/// The port of the meeting point where the launcher tells no more than a host.
pub const DEFAULT_PORT: u16 = 7877;

/// Why a process does not know its rank.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoRank {
    /// The text is no rank.
    #[error("expected auto, or R/N such as 0/2 for the first of two ranks")]
    Form,
    /// There is none of that number.
    #[error("there is no rank {number} of {count}; expected 0/N to N-1/N, N up to {MAX_RANKS}")]
    OutOf {
        /// The number of the rank.
        number: u32,
        /// How many there are.
        count: u32,
    },
    /// A variable that a launcher sets has something else.
    #[error("{name} is {value:?}; expected a whole number")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What it has.
        value: String,
    },
    /// One of the two variables of a launcher is not there.
    #[error("{there} is set and {missing} is not; expected both, or R/N in place of auto")]
    Half {
        /// The one that is there.
        there: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// Only the index of a Job is known.
    #[error(
        "JOB_COMPLETION_INDEX does not say how many ranks there are; expected --ranks N beside it"
    )]
    Count,
    /// No launcher has told anything.
    #[error(
        "no launcher tells it: expected SLURM_PROCID, OMPI_COMM_WORLD_RANK, PMI_RANK, RANK or JOB_COMPLETION_INDEX in the \
         environment, or R/N in place of auto"
    )]
    Unknown,
    /// The launcher and `--ranks` do not agree.
    #[error("{launcher} started {found} ranks, and --ranks says {asked}; expected the same number")]
    Disagreement {
        /// The launcher.
        launcher: &'static str,
        /// How many it started.
        found: u32,
        /// How many were expected.
        asked: u32,
    },
}

/// What is around a process: `get` looks a variable of its environment up.
pub struct Surroundings<G> {
    get: G,
}

impl<G: Fn(&str) -> Option<String>> Surroundings<G> {
    /// Looks variables up by `get`.
    pub const fn new(get: G) -> Self {
        Surroundings { get }
    }

    /// An empty variable is none.
    fn text(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|text| !text.is_empty())
    }

    fn number(&self, name: &'static str) -> Result<Option<u32>, NoRank> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        match value.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(NoRank::Variable { name, value }),
        }
    }

    /// The rank that the launcher has given this process; `count` of them are expected, if that is known otherwise.
    ///
    /// # Errors
    /// If no launcher tells a rank, or what it tells can't be.
    pub fn rank(&self, count: Option<u32>) -> Result<Rank, NoRank> {
        for (launcher, of_number, of_count) in LAUNCHERS {
            let (number, found) = match (self.number(of_number)?, self.number(of_count)?) {
                (Some(number), Some(found)) => (number, found),
                (None, None) => continue,
                (Some(_), None) => match count {
                    Some(_) => (self.number(of_number)?.unwrap_or(0), count.unwrap_or(0)),
                    None => {
                        return Err(NoRank::Half {
                            there: of_number,
                            missing: of_count,
                        });
                    }
                },
                // A batch script of Slurm has the number of tasks and none of its own.
                (None, Some(_)) => continue,
            };
            if let Some(asked) = count.filter(|asked| *asked != found) {
                return Err(NoRank::Disagreement {
                    launcher,
                    found,
                    asked,
                });
            }
            return Rank::new(number, found).ok_or(NoRank::OutOf {
                number,
                count: found,
            });
        }
        let number = self.number(INDEX)?.ok_or(NoRank::Unknown)?;
        let count = count.ok_or(NoRank::Count)?;
        Rank::new(number, count).ok_or(NoRank::OutOf { number, count })
    }

    /// Where rank 0 is by what the launcher tells, as `HOST:PORT`: torchrun's convention, or the first host of Slurm's step.
    pub fn meeting_point(&self) -> Option<String> {
        if let Some(host) = self.text("MASTER_ADDR") {
            let port = self.text("MASTER_PORT");
            let port = port.unwrap_or_else(|| DEFAULT_PORT.to_string());
            return Some(match host.contains(':') && !host.starts_with('[') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            });
        }
        // SLURM_LAUNCH_NODE_IPADDR is where srun ran, not rank 0.
        let nodes = self.text("SLURM_STEP_NODELIST")?;
        Some(format!("{}:{DEFAULT_PORT}", first_host(&nodes)?))
    }
}

/// The first host of a list in Slurm's short form: `n3` of `n[3-5,9],m1`, `n03-a` of `n[03-05]-a`.
fn first_host(nodes: &str) -> Option<String> {
    let end = nodes.find([',', '[']).unwrap_or(nodes.len());
    let (head, rest) = nodes.split_at_checked(end)?;
    let host = match rest.strip_prefix('[') {
        None => head.to_owned(),
        Some(rest) => {
            let (range, after) = rest.split_once(']')?;
            let first = range.split([',', '-']).next()?;
            let tail = after.split(',').next().unwrap_or_default();
            // A second list of numbers in one name is rare, and not read here.
            if tail.contains('[') {
                return None;
            }
            format!("{head}{first}{tail}")
        }
    };
    Some(host).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(variables: &[(&str, &str)]) -> Surroundings<impl Fn(&str) -> Option<String>> {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Surroundings::new(move |name: &str| {
            let found = variables.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn each_launcher_tells_the_rank_in_its_own_way() {
        for (variables, count, expected) in [
            (
                &[("SLURM_PROCID", "1"), ("SLURM_NTASKS", "2")][..],
                None,
                "1/2",
            ),
            (
                &[("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "3")],
                None,
                "0/3",
            ),
            (&[("PMI_RANK", "2"), ("PMI_SIZE", "3")], None, "2/3"),
            (&[("RANK", "3"), ("WORLD_SIZE", "4")], None, "3/4"),
            (&[("JOB_COMPLETION_INDEX", "4")], Some(5), "4/5"),
            // MPI under Slurm: srun has started both.
            (
                &[("SLURM_NTASKS", "2"), ("PMI_RANK", "1"), ("PMI_SIZE", "2")],
                None,
                "1/2",
            ),
            (&[("RANK", "0"), ("WORLD_SIZE", "1")], Some(1), "0/1"),
            (&[("RANK", "0")], Some(2), "0/2"),
        ] {
            let rank = around(variables).rank(count);
            assert_eq!(rank.map(|rank| rank.to_string()), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn what_no_launcher_tells_is_refused_with_what_is_expected() {
        for (variables, count, expected) in [
            (&[][..], None, "no launcher tells it"),
            (&[("RANK", "1")], None, "RANK is set and WORLD_SIZE is not"),
            (
                &[("RANK", "one"), ("WORLD_SIZE", "2")],
                None,
                "RANK is \"one\"",
            ),
            (
                &[("RANK", "2"), ("WORLD_SIZE", "2")],
                None,
                "there is no rank 2 of 2",
            ),
            (
                &[("RANK", "0"), ("WORLD_SIZE", "0")],
                None,
                "there is no rank 0 of 0",
            ),
            (
                &[("RANK", "0"), ("WORLD_SIZE", "4097")],
                None,
                "there is no rank 0 of 4097",
            ),
            (&[("JOB_COMPLETION_INDEX", "0")], None, "expected --ranks N"),
            (
                &[("JOB_COMPLETION_INDEX", "2")],
                Some(2),
                "there is no rank 2 of 2",
            ),
            (
                &[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")],
                Some(2),
                "Slurm started 4 ranks, and --ranks says 2",
            ),
        ] {
            let error = around(variables).rank(count).unwrap_err().to_string();
            assert!(
                error.starts_with(expected) || error.contains(expected),
                "{error}"
            );
        }
    }

    #[test]
    fn the_meeting_point_is_the_master_or_the_first_host_of_the_step() {
        for (variables, expected) in [
            (&[][..], None),
            (&[("MASTER_ADDR", "10.0.0.1")], Some("10.0.0.1:7877")),
            (
                &[("MASTER_ADDR", "a.example"), ("MASTER_PORT", "99")],
                Some("a.example:99"),
            ),
            (
                &[("MASTER_ADDR", "fd00::1"), ("MASTER_PORT", "9")],
                Some("[fd00::1]:9"),
            ),
            (&[("SLURM_STEP_NODELIST", "n1")], Some("n1:7877")),
            (&[("SLURM_STEP_NODELIST", "n[3-5,9],m1")], Some("n3:7877")),
            (
                &[("SLURM_STEP_NODELIST", "n[03-05]-a,b")],
                Some("n03-a:7877"),
            ),
            (&[("SLURM_STEP_NODELIST", "a,b[1-2]")], Some("a:7877")),
            (&[("SLURM_STEP_NODELIST", "a[1-2]b[3-4]")], None),
            (&[("SLURM_STEP_NODELIST", "[")], None),
            (&[("SLURM_STEP_NODELIST", ",")], None),
        ] {
            let found = around(variables).meeting_point();
            assert_eq!(found.as_deref(), expected, "{variables:?}");
        }
    }
}
