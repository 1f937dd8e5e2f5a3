//! The changes of a lab that are marks.

use super::{SettingError, Settings};
use crate::hypervisor::MarkOn;

/// Reads `mark-on`.
pub(super) fn mark_on(settings: &Settings) -> Result<MarkOn, SettingError> {
    let mut changes = MarkOn::default();
    for setting in settings.all("mark-on") {
        for word in setting.text.split(',') {
            match word.trim() {
                "link" => changes.link = true,
                "route" => changes.route = true,
                _ => return Err(setting.error("expected link, route, or both: link,route")),
            }
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use crate::experiment::{Scenario, plan};

    fn planned(text: &str) -> Result<crate::experiment::Experiment, String> {
        let scenario = Scenario::parse("t.toml", text).map_err(|error| error.to_string())?;
        plan(&scenario).map_err(|error| error.to_string())
    }

    #[test]
    fn marks_are_planned_and_what_they_can_not_be_is_said() {
        for (value, link, route) in [
            ("'link'", true, false),
            ("'route, link'", true, true),
            ("['route', 'link']", true, true),
        ] {
            let plan = planned(&format!("mark-on = {value}")).unwrap();
            assert_eq!(
                (plan.mark_on.link, plan.mark_on.route),
                (link, route),
                "{value}"
            );
        }
        let phase = |lines: &str| format!("ping = 'vm0:vm1'\ncount = 1\n[[phase]]\n{lines}");
        let named = planned(&phase("mark = true\nname = 'policy'")).unwrap();
        let mark = named.phases[0].mark.as_ref();
        assert_eq!(mark.map(|mark| mark.as_str()), Some("policy"));
        assert_eq!(
            planned(&phase("mark = false")).unwrap().phases[0].mark,
            None
        );
        for (text, said) in [
            (phase("mark = true"), "the phase has no name; expected one"),
            (
                phase("mark = true\nname = 'a b'"),
                "expected 1 to 64 letters, digits, - and _",
            ),
            (
                "mark-on = 'tap'".to_owned(),
                "expected link, route, or both: link,route",
            ),
            (
                "mark-on = 'link,'".to_owned(),
                "expected link, route, or both: link,route",
            ),
            ("mark-on = 'link'\nfabric = 'sim'".to_owned(), "fabric"),
            ("mark = true".to_owned(), "mark"),
        ] {
            let error = planned(&text).expect_err(&text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
