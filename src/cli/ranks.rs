//! `--rank` and `--cores`: the place of this process among those that run one plan together, or the start of all of them.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitStatus;

use tap_reactor::experiment::{Experiment, Meet, Processes, SettingError, Settings};
use tap_reactor::ranks::seal::hex;
use tap_reactor::ranks::{MAX_RANKS, Rank, Surroundings, Turns};
use tap_reactor::system::{
    Crew, EarlySignals, FabricKind, MeetingAddress, MemoryDescriptor, NO_SECRET, NetnsChoice,
    Outside, RANK_VARIABLE, SECRET_EXPECTED, SharedMemory, SharedSwitch, Sharing,
    SwitchDescriptors, SystemError, begin_rank, enter_shared_namespace, nonce, processors,
    read_secret,
};

use super::run::RunError;
use super::{UsageError, console};

/// The place of this process.
#[derive(Debug)]
pub(super) enum Place {
    /// It runs all of the plan.
    Alone,
    /// It is one of several.
    Rank(Rank, Option<Sharing>, Option<Meet>),
    /// It starts so many on this machine.
    Launcher(u32),
}

/// What a launcher of this program has told its rank.
struct Told {
    rank: Rank,
    parent: u32,
    address: String,
    /// What the ranks' frames go by, if it is a switch by XDP.
    switch: Option<SwitchDescriptors>,
    /// The memory in which they tell each other of pings, if they do.
    turns: Option<MemoryDescriptor>,
}

/// The names of what a launcher passes on, with the sign behind them.
const SWITCH: &str = "switch=";
const TURNS: &str = "turns=";

impl Told {
    /// What the environment says. `None` if this process was not started as a rank.
    fn read() -> Option<Told> {
        let text = env::var(RANK_VARIABLE).ok()?;
        let mut words = text.split(' ');
        let mut told = Told {
            rank: words.next()?.parse().ok()?,
            parent: words.next()?.parse().ok()?,
            address: words.next()?.to_owned(),
            switch: None,
            turns: None,
        };
        for word in words {
            if let Some(switch) = word.strip_prefix(SWITCH) {
                told.switch = switch.parse().ok();
            }
            if let Some(turns) = word.strip_prefix(TURNS) {
                told.turns = turns.parse().ok();
            }
        }
        Some(told)
    }
}

/// To be called before anything else. Of a process that `--cores` has started: it ends with the one that has.
///
/// # Errors
/// If that one is gone already.
pub fn begin() -> Result<(), SystemError> {
    match Told::read() {
        Some(told) => begin_rank(told.parent),
        None => Ok(()),
    }
}

/// Of a process that `--cores` has started as another rank than the first: the number of its rank. Rank 0 and the launcher tell
/// what became of ranks.
pub fn other_rank() -> Option<u32> {
    let told = Told::read().filter(|told| !told.rank.is_first())?;
    Some(told.rank.number())
}

impl Place {
    /// The processes of the plan that are on this machine, and that it is to be made sure of that there is room for: the launcher
    /// does that for all of its ranks, before they are there.
    pub(super) const fn processes(&self) -> Processes {
        match self {
            Place::Alone => Processes::One,
            Place::Rank(rank, ..) => Processes::Rank(*rank),
            Place::Launcher(ranks) => Processes::All(*ranks),
        }
    }

    /// The place that `given` flags and the environment say.
    ///
    /// # Errors
    /// If a value can't be, or two flags exclude each other.
    pub(super) fn find(given: &Settings) -> Result<Place, UsageError> {
        let (rank, cores) = (given.get("rank"), given.get("cores"));
        let secret_file = given.get("meet-secret-file");
        for (name, is_used) in [
            ("ranks", rank.is_some_and(|rank| rank.text == "auto")),
            ("meet", rank.is_some()),
            ("meet-secret-file", rank.is_some()),
        ] {
            if let Some(setting) = given.get(name).filter(|_| !is_used) {
                let beside = match name {
                    "ranks" => "--rank auto",
                    _ => "--rank",
                };
                return Err(setting
                    .error(format_args!("expected {beside} beside it"))
                    .into());
            }
        }
        if let (Some(_), Some(cores)) = (rank, cores) {
            return Err(cores.error("cannot be used with --rank").into());
        }
        if let (Some(setting), Some(sweep)) = (rank.or(cores), given.get("sweep")) {
            let flag = setting.flag();
            return Err(sweep
                .error(format_args!("cannot be used with {flag}"))
                .into());
        }
        if let Some(setting) = cores {
            if let Some(told) = Told::read() {
                let sharing = match told.rank.is_first() {
                    true => Sharing::First,
                    false => Sharing::Other,
                };
                let address = MeetingAddress::find(&told.address);
                let address = address.map_err(|why| setting.error(why))?;
                let meet = Meet {
                    address,
                    secret_file: None,
                };
                return Ok(Place::Rank(told.rank, Some(sharing), Some(meet)));
            }
            let most = processors().map_err(|error| setting.error(error))?.len() as u32;
            let number = match setting.text.as_str() {
                "all" => most,
                _ => setting.number_in(1..=MAX_RANKS)?,
            };
            if number > most {
                let why = format_args!(
                    "this process may use {most} of the machine's processors; expected 1 to {most}, or all"
                );
                return Err(setting.error(why).into());
            }
            return Ok(match number {
                1 => Place::Alone,
                number => Place::Launcher(number),
            });
        }
        let Some(setting) = rank else {
            return Ok(Place::Alone);
        };
        let around = Surroundings::new(|name: &str| env::var(name).ok());
        let count = given
            .get("ranks")
            .map(|count| count.number_in(1..=MAX_RANKS))
            .transpose()?;
        let rank = match setting.text.as_str() {
            "auto" => around.rank(count),
            text => text.parse(),
        };
        let rank: Rank = rank.map_err(|why| setting.error(why))?;
        if rank.count() == 1 {
            return Ok(Place::Alone);
        }
        let meet = given.get("meet");
        let address = match (meet, around.meeting_point()) {
            (Some(meet), _) => MeetingAddress::find(&meet.text).map_err(|why| meet.error(why))?,
            (None, Some(known)) => MeetingAddress::find(&known)
                .map_err(|why| setting.error(format_args!("the meeting point {known}: {why}")))?,
            (None, None) => {
                let why = "no launcher tells where the ranks meet; expected --meet HOST:PORT beside it, the address of rank 0";
                return Err(setting.error(why).into());
            }
        };
        // Whose address it is, for the words of errors.
        let place = meet.unwrap_or(setting);
        address.check().map_err(|why| place.error(why))?;
        let file: Option<PathBuf> = secret_file.map(|setting| setting.text.clone().into());
        let secret = read_secret(file.as_deref()).map_err(|error| match secret_file {
            Some(setting) => setting.error(error),
            None => SettingError::new(error),
        })?;
        if secret.is_none() && !address.is_local() {
            let why = match meet {
                Some(_) => format!("{NO_SECRET}; {SECRET_EXPECTED}"),
                None => format!("the meeting point {address}: {NO_SECRET}; {SECRET_EXPECTED}"),
            };
            return Err(place.error(why).into());
        }
        let meet = Meet {
            address,
            secret_file: file,
        };
        Ok(Place::Rank(rank, None, Some(meet)))
    }
}

/// The part of `experiment` that a rank runs, as [`Experiment::of_rank`].
///
/// Ranks that share a private lab are in its namespace from their start on. One that something leads out of is made by rank 0
/// instead, which knows both sides then, and has a name for the others to find it.
///
/// # Errors
/// If ranks can't divide the plan.
pub(super) fn part(
    experiment: Experiment,
    rank: Rank,
    sharing: Option<Sharing>,
    meet: Option<Meet>,
) -> Result<Experiment, UsageError> {
    let name = match (sharing, &meet) {
        (Some(_), Some(meet)) => match &meet.address {
            MeetingAddress::Name(name) => Some(name.clone()),
            MeetingAddress::Path(_) | MeetingAddress::Tcp(_) => None,
        },
        _ => None,
    };
    let mut part = experiment.of_rank(rank, sharing, meet)?;
    part.check_room()?;
    if let Some(Outside::Underlay(underlay)) = &part.lab.outside
        && underlay.ranks.is_some()
    {
        underlay.check_own_host().map_err(SettingError::new)?;
    }
    if let (NetnsChoice::Private, Some(_), Some(name)) = (&part.lab.netns, &part.lab.outside, name)
    {
        part.lab.netns = NetnsChoice::Named(name);
    }
    if let (Some(_), Some(told)) = (sharing, Told::read()) {
        part.lab.switch = told.switch;
        if let Some(part) = &mut part.part {
            part.turns = told.turns;
        }
    }
    Ok(part)
}

/// The start of ranks on the cores of this machine.
#[derive(Debug)]
pub struct Launch {
    /// They share a namespace that this process is to make.
    makes_namespace: bool,
    /// They share a switch by XDP for so many VMs.
    vms_of_switch: Option<u32>,
    /// They tell each other when pings turn.
    tells_turns: bool,
    ranks: u32,
}

impl Launch {
    /// The start of `ranks` ranks, which must be able to divide `experiment`.
    ///
    /// # Errors
    /// If they can't.
    pub(super) fn new(experiment: &Experiment, ranks: u32) -> Result<Launch, UsageError> {
        if let Some(first) = Rank::new(0, ranks) {
            experiment
                .clone()
                .of_rank(first, Some(Sharing::First), None)?;
        }
        Ok(Launch {
            makes_namespace: experiment.lab.netns == NetnsChoice::Private
                && experiment.lab.outside.is_none(),
            vms_of_switch: (experiment.lab.fabric == FabricKind::Xdp).then_some(experiment.lab.vms),
            tells_turns: experiment.is_one_way,
            ranks,
        })
    }

    /// Starts the ranks, with the words of this process, and waits for them. Returns true if all went as expected, and false if
    /// some pings were not answered or a rank was gone.
    ///
    /// # Errors
    /// If the system refuses, or refused something to a rank, which has told of it.
    pub fn run(self, early: Option<EarlySignals>) -> Result<Option<bool>, RunError> {
        if self.makes_namespace {
            enter_shared_namespace()?;
        }
        let own = std::process::id();
        let (name, secret) = (hex(&nonce()?), [nonce()?, nonce()?].map(|part| hex(&part)));
        let address = format!("@tap-reactor-{own}-{name}");
        let switch = self.vms_of_switch.map(SharedSwitch::load).transpose()?;
        let passed_on = switch.as_ref().map(SharedSwitch::pass_on).transpose()?;
        let mut passed_on = passed_on.map_or_else(String::new, |it| format!(" {SWITCH}{it}"));
        let memory = self
            .tells_turns
            .then(|| SharedMemory::new(Turns::words(self.ranks)))
            .transpose()?;
        if let Some(memory) = &memory {
            passed_on += &format!(" {TURNS}{}", memory.pass_on()?);
        }
        let places = processors()?.into_iter().zip(0..self.ranks);
        let places: Vec<(usize, String)> = places
            .map(|(processor, rank)| {
                let place = format!("{rank}/{} {own} {address}{passed_on}", self.ranks);
                (processor, place)
            })
            .collect();
        let words: Vec<OsString> = env::args_os().skip(1).collect();
        let crew = Crew::start(&words, &places, &secret.concat())?;
        drop(early);
        let statuses = crew.wait(|rank, status| {
            if status.code().is_none() {
                console::eprint(format_args!(
                    "tap-reactor: rank {rank} has not ended by itself: {status}"
                ));
            }
        })?;
        Ok(outcome(&statuses))
    }
}

/// The outcome of ranks that ended so: as expected or not; `None` if the system refused something to one of them.
fn outcome(statuses: &[ExitStatus]) -> Option<bool> {
    let has_refused = |status: &ExitStatus| matches!(status.code(), Some(2..));
    match statuses.iter().any(has_refused) {
        true => None,
        false => Some(statuses.iter().all(ExitStatus::success)),
    }
}
