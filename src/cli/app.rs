//! The parser: `structopt`'s clap, fed from the tables of options.

use structopt::clap::{App, AppSettings, Arg, SubCommand};
use tap_reactor::experiment::options::OptionSpec;

use super::subcommand::{NAME, Subcommand};

/// The name of the words after the options.
pub const OPERAND: &str = "operand";

/// The parser for all subcommands.
pub fn app() -> App<'static, 'static> {
    let app = App::new(NAME)
        .setting(AppSettings::ArgsNegateSubcommands)
        .setting(AppSettings::DisableHelpSubcommand);
    with_options(app, Subcommand::Bare).subcommands(
        Subcommand::NAMED
            .map(|subcommand| with_options(SubCommand::with_name(subcommand.name()), subcommand)),
    )
}

fn with_options(app: App<'static, 'static>, subcommand: Subcommand) -> App<'static, 'static> {
    let options = subcommand.options().into_iter().map(argument);
    let app = app
        .setting(AppSettings::ColorNever)
        .setting(AppSettings::DisableVersion)
        .args(&options.collect::<Vec<_>>());
    let operands = subcommand.operands();
    match operands.as_slice() {
        [] => app,
        [first, others @ ..] => app.arg(
            Arg::with_name(OPERAND)
                .value_name(first.name)
                .multiple(first.is_repeatable || !others.is_empty()),
        ),
    }
}

fn argument(option: &'static OptionSpec) -> Arg<'static, 'static> {
    let argument = Arg::with_name(option.name)
        .long(option.name)
        .value_name(option.value_name)
        .multiple(option.is_repeatable);
    let argument = match option.short {
        Some(short) => argument.short(short.encode_utf8(&mut [0; 4])),
        None => argument,
    };
    match option.needs_value() {
        true => argument.number_of_values(1),
        // A value that may be left out follows a "=", so that no word after it is taken for one.
        false => argument.min_values(0).max_values(1).require_equals(true),
    }
}
