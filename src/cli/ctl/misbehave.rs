//! The commands about misbehaviours.

use tap_reactor::control::{List, MisbehaveDocument};
use tap_reactor::escape::escaped;
use tap_reactor::report::{MisbehaviourSummary, Table, span};

use super::CtlError;
use super::actions::{list, post, show};
use super::client::{Client, encoded};
use super::command::Call;
use super::text::lines;

pub fn misbehaviours(client: &Client, _: &Call, json: bool) -> Result<(), CtlError> {
    list(client, PATH, None, json, words)
}

pub fn misbehave(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    let wish = MisbehaveDocument {
        misbehave: call.operand(0).to_owned(),
    };
    let body = post(client, PATH, &wish)?;
    show(&body, json, |all: List<MisbehaviourSummary>| {
        words(&all.items)
    })
}

pub fn behave(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    let target = format!("{PATH}/{}", encoded(call.operand(0)));
    let body = client.request("DELETE", &target, None)?.bytes()?;
    show(&body, json, |all: List<MisbehaviourSummary>| {
        words(&all.items)
    })
}

const PATH: &str = "/misbehaviours";

/// The misbehaviours, in a table.
fn words(all: &[MisbehaviourSummary]) -> String {
    if all.is_empty() {
        return "no misbehaviours\n".to_owned();
    }
    let mut table = Table::new(5, &["VM", "what", "after", "for", "done"]);
    for each in all {
        table.row([
            each.vm.to_string(),
            escaped(&each.what),
            span(each.began_ns),
            match (each.to_come, each.lasted_ns()) {
                (true, _) => "to come".to_owned(),
                (false, None) => "goes on".to_owned(),
                (false, Some(lasted)) => span(lasted),
            },
            match &each.refused {
                Some(why) => format!("nothing: {}", escaped(why)),
                None => each.done(),
            },
        ]);
    }
    lines(&table.lines())
}
