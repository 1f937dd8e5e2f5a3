//! `search`: the greatest load that meets a goal.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::junit::{self, Case};
use crate::lab::Lab;

/// A network that carries 12,755 frames of 98 bytes a second, and holds 100 more.
const SLOW_LINK: &str = "search --fabric sim --vms 2 --ping vm0:vm1 --impair vm1:in:rate=10Mbit,queue=100 --range 1k..100k";

/// What the link carries.
const TRUTH: f64 = 10e6 / (98.0 * 8.0);

fn found(words: &str, status: i32) -> Value {
    let run = Lab::new().tap_reactor(words).expect_status(status);
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

fn bounds(report: &Value, goal: usize) -> (f64, f64) {
    let bound = |name: &str| report["goals"][goal][name].as_f64().expect(name);
    (bound("lower"), bound("upper"))
}

#[test]
fn what_a_link_carries_is_found_between_two_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("search.html");
    let files = junit::Files::new();
    let report = found(
        &format!(
            "{SLOW_LINK} --json --goal rate:loss=0,final=2s,sum=2s,initial=500ms --goal rate:loss<=10% \
             --expect throughput>12k -o {} {files}",
            page.display()
        ),
        0,
    );
    let cases = files.cases(&Lab::new());
    assert!(
        cases.values().all(|case| *case == Case::Passed),
        "{cases:?}"
    );
    assert_eq!(cases.len(), 4, "{cases:?}");
    assert!(files.markdown().contains("\n- ✅ the search is complete\n"));
    let queued = 100.0;
    let ((none, some), (tenth, more)) = (bounds(&report, 0), bounds(&report, 1));
    assert!(none <= TRUTH + queued / 2.0 && some >= TRUTH, "{report}");
    assert!(
        tenth <= (TRUTH + queued) / 0.9 && more >= TRUTH / 0.9,
        "{report}"
    );
    for (lower, upper) in [(none, some), (tenth, more)] {
        assert!((upper - lower) / upper <= 0.01, "{report}");
    }
    assert_eq!(report["goals"][0]["ending"], "found");
    let throughput = report["goals"][1]["throughput"].as_f64().unwrap();
    assert!(
        (TRUTH * 0.98..=TRUTH + queued).contains(&throughput),
        "{report}"
    );
    assert_eq!(report["expectations"][0]["holds"], true);
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<figure>").count(), 2);
    assert!(page.contains("The network carries "), "{page}");
}

/// Frames of 98 bytes on the link, the frame check sequence not counted.
const SLOW_STREAM: &str = "search --fabric sim --vms 2 --stream vm0:vm1 --size 102 --impair vm1:in:rate=10Mbit,queue=100 \
                           --range 1k..100k";

#[test]
fn what_a_link_carries_of_a_stream_is_found_by_loss_and_by_one_way_time() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("search.html");
    let report = found(
        &format!(
            "{SLOW_STREAM} --json --goal rate:loss=0,final=2s,sum=2s,initial=500ms --goal rate:loss<=10% \
             --goal rate:p99<=2ms,width=2%,sum=1s -o {}",
            page.display()
        ),
        0,
    );
    let queued = 100.0;
    let [(none, some), (tenth, more), (quick, slow)] = [0, 1, 2].map(|goal| bounds(&report, goal));
    assert!(none <= TRUTH + queued / 2.0 && some >= TRUTH, "{report}");
    assert!(
        tenth <= (TRUTH + queued) / 0.9 && more >= TRUTH / 0.9,
        "{report}"
    );
    // A frame takes 78 µs, so 2 ms are a queue of 25, which is reached where a little more comes than is carried.
    assert!(quick <= TRUTH * 1.02 && slow >= TRUTH * 0.98, "{report}");
    for trial in report["trials"].as_array().unwrap() {
        let of = |name: &str| trial[name].as_f64().expect(name);
        assert_eq!(trial["valid"], true, "{trial}");
        assert_eq!(of("loss"), of("failed") / of("sent"), "{trial}");
        assert!(of("sent") > 0.0 && of("rate_per_s") > 0.0, "{trial}");
        assert!(of("one_way_p99_ns") >= 78_000.0, "{trial}");
    }
    let throughput = report["goals"][1]["throughput"].as_f64().unwrap();
    assert!(
        (TRUTH * 0.98..=TRUTH + queued).contains(&throughput),
        "{report}"
    );
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("one-way p99 by load"), "{page}");
    let lab = Lab::new();
    let same = "--goal rate:loss=0 --dry-run";
    let own = "search --fabric sim --stream vm0:vm1,rate=10k";
    let run = lab.tap_reactor(&format!("{own} {same}")).expect_status(2);
    assert!(
        run.stderr.contains("each stream has a rate of its own"),
        "{run:?}"
    );
}

#[test]
fn on_a_real_bridge_the_tool_ends_and_no_loss_is_told() {
    // Far more than one thread does.
    let words = "search --vms 2 --ping vm0:vm1 --range 1k..10M --json \
                 --goal rate:loss=0,final=100ms,sum=100ms,width=20%";
    let report = found(words, 0);
    let goal = &report["goals"][0];
    assert_eq!(
        (&goal["ending"], &goal["upper"]),
        (&"limited_by_tool".into(), &Value::Null),
        "{report}"
    );
    assert!(goal["lower"].as_f64().unwrap() > 1_000.0, "{report}");
    let trials = report["trials"].as_array().unwrap();
    assert_eq!(trials[0]["valid"], false, "{report}");
    assert_eq!(trials[0]["failed"], 0, "{report}");
    // A stream comes to an end of its own, above 0.
    let words = "search --vms 2 --stream vm0:vm1 --range 1k..3M --json \
                 --goal rate:loss=0,final=100ms,sum=100ms,width=50%";
    let report = found(words, 0);
    let goal = &report["goals"][0];
    assert_eq!(goal["ending"], "limited_by_tool", "{report}");
    assert!(goal["lower"].as_f64().unwrap() > 1_000.0, "{report}");
    assert_eq!(report["trials"][0]["valid"], false, "{report}");
}

#[test]
fn other_axes_are_counted_and_placed() {
    // What `--sweep` finds between 80 and 200.
    let report = found(
        "search --fabric sim --ping ring --resolve at-once --filter=off --interval 1s --stagger 0 \
         --impair all:in:rate=100kbit,queue=30 --range 20..400 --json \
         --goal vms:unresolved=0,width=5%,sum=1s",
        0,
    );
    let (lower, upper) = bounds(&report, 0);
    assert!(
        lower >= 80.0 && upper <= 200.0 && lower.fract() == 0.0,
        "{report}"
    );
    // So many flows fill a window.
    let report = found(
        "search --fabric sim --vms 50 --ping random:{} --rate 1k --range 2..40 --json \
         --goal flows:sent>=1,sum=1s",
        0,
    );
    assert_eq!(report["goals"][0]["ending"], "above_range", "{report}");
}

#[test]
fn a_search_that_is_ended_tells_what_is_known() {
    let lab = Lab::new();
    let goal = "rate:loss=0,final=2s,sum=20s,width=0.1%";
    let files = junit::Files::new();
    let report = found(
        &format!("{SLOW_LINK} --json --time-box 3s --goal {goal} {files}"),
        1,
    );
    let why = "the time box left no time for another trial before the search was done";
    assert_eq!(report["shortcomings"], serde_json::json!([why]), "{report}");
    let done = "the search is complete";
    let cases = files.cases(&lab);
    assert_eq!(cases[done], Case::failed(why), "{cases:?}");
    assert!(files.markdown().contains(&format!("\n- ❌ {why}\n")));
    assert_eq!(report["interrupted"], true, "{report}");
    assert_eq!(report["goals"][0]["ending"], "unfinished");
    let words = format!("search --vms 2 --ping vm0:vm1 --range 1k..1M --goal {goal} {files}");
    let mut running = lab.start_tap_reactor(&words);
    running.wait_until_it_says("between");
    running.signal(Signal::SIGINT);
    let run = running.wait().expect_status(1);
    assert!(run.stdout.contains("The search was not done."), "{run:?}");
    let why = "a signal came before the search was done";
    let told = format!("\ntap-reactor: {why}\n");
    assert!(run.stderr.contains(&told), "{run:?}");
    assert_eq!(files.cases(&lab)[done], Case::failed(why));
    assert_eq!(lab.link_names(), [""; 0]);
}

#[test]
fn what_can_not_be_searched_for_is_told_before_anything_is_touched() {
    let lab = Lab::new();
    for (words, told) in [
        ("", "search: expected --goal with what is varied"),
        (
            "--goal loss=0",
            "--goal loss=0: expected what is varied, a colon",
        ),
        (
            "--goal rate:loss=0 --goal vms:loss=0",
            "--goal vms:loss=0: expected rate before the colon",
        ),
        (
            "--goal flows:loss=0",
            "--goal flows:loss=0: flows is no setting with a number",
        ),
        (
            "--goal rate:loss=0 --rate 10",
            "--rate 10: cannot be used with --goal rate",
        ),
        ("--goal rate:loss=0", "nothing is pinged"),
        (
            "--ping vm0:vm1 --goal rate:loss=0 --range 5..5",
            "--range 5..5: expected the least and the greatest load",
        ),
        (
            "--ping vm0:vm1 --goal vms:loss=0 --range 1..3",
            "a trial with vms=1 can't be made: ",
        ),
        (
            "--ping vm0:vm1 --goal rate:loss=0 --expect p99<1ms",
            "--expect p99<1ms: expected a bound of what is carried",
        ),
        (
            "--ping vm0:vm1 --goal rate:loss=0 -o s.csv",
            "expected .json, .junit.xml, .md or .html for a search",
        ),
        (
            "--ping vm0:vm1 --goal rate:loss=0 --duration 1s",
            "--duration",
        ),
        (
            "nowhere.toml --goal rate:loss=0",
            "nowhere.toml: No such file",
        ),
    ] {
        refused(&lab, words, told);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lab.toml");
    for (line, told) in [
        ("count = 3", "count = 3: the search decides"),
        ("ramp = '1k:5k:5'", "ramp = 1k:5k:5: the search decides"),
        ("[[phase]]\ncount = 3", "count = 3: the search decides"),
        ("[[phase]]\nrate = 1000", "rate = 1000: the search decides"),
        (
            "[[phase]]\nduration = '1s'",
            "duration = 1s: the search decides",
        ),
    ] {
        std::fs::write(&path, format!("vms = 2\nping = 'vm0:vm1'\n{line}\n")).unwrap();
        refused(
            &lab,
            &format!("{} --goal rate:loss=0", path.display()),
            told,
        );
    }
}

fn refused(lab: &Lab, words: &str, told: &str) {
    let run = lab.tap_reactor(&format!("search {words}")).expect_status(2);
    assert!(run.stderr.contains(told), "{words}: {run:?}");
    assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
}

#[test]
fn what_is_flooded_is_a_goal_only_where_it_is_counted() {
    let words = "search --vms 2 --ping vm0:vm1 --goal rate:floods.broadcast.frames=0";
    let run = Lab::new().tap_reactor(words).expect_status(2);
    let why = "--goal rate:floods.broadcast.frames=0: floods are not counted; expected --count-floods beside it";
    assert!(run.stderr.contains(why), "{run:?}");
    let words = "--vms 2 --ping vm0:vm1 --count 1 --expect floods.broadcast.frames=0";
    let run = Lab::new().tap_reactor(words).expect_status(2);
    let why = "--expect floods.broadcast.frames=0: floods are not counted; expected --count-floods beside it";
    assert!(run.stderr.contains(why), "{run:?}");
}
