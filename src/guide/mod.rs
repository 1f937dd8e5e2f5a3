//! The guide for users of the program and of the crate: one module per page. The pages are the Markdown files in this folder.

/// Declares a module for each page. `links!` defines the targets of the pages' links in this documentation; the first
/// definition of a link holds, so the definitions in the files apply only where the files are read directly. Further `doc`
/// attributes of a row follow its page.
macro_rules! pages {
    ($($(#[doc = $doc:expr])* $page:ident: $file:literal;)*) => {
        $(
            #[doc = links!()]
            #[doc = include_str!($file)]
            $(#[doc = $doc])*
            pub mod $page {}
        )*
    };
}

macro_rules! links {
    () => {
        "\
[Reading a report]: crate::guide::reading_a_report
[Many VMs]: crate::guide::many_vms
[Every core, many machines]: crate::guide::ranks
[Capturing]: crate::guide::capturing
[DHCPv6]: crate::guide::ipv6_and_vlans#dhcpv6
[Writing a scenario]: crate::guide::writing_a_scenario
[VMs on the wire]: crate::guide::vms_on_the_wire
[The picture]: #architecture
[the crate]: crate
[`Scenario`]: crate::experiment::Scenario
[`Lab`]: crate::lab::Lab
[`TapLab`]: crate::lab::TapLab
[`SimulatedLab`]: crate::lab::SimulatedLab
[`Experiment::of_vms`]: crate::experiment::Experiment::of_vms
[`Observer`]: crate::lab::Observer
[`Lab::judge`]: crate::lab::Lab::judge
[`Lab::begin`]: crate::lab::Lab::begin
[`Lab::drive`]: crate::lab::Lab::drive
[`Command`]: crate::hypervisor::Command
[`Report`]: crate::report::Report
[`Hypervisor`]: crate::hypervisor::Hypervisor
[`Fabric`]: crate::fabric::Fabric
[`wire`]: crate::wire

"
    };
}

pages! {
    first_steps: "first-steps.md";
    reading_a_report: "reading-a-report.md";
    load_experiments: "load-experiments.md";
    writing_a_scenario: "writing-a-scenario.md";
    many_vms: "many-vms.md";
    searching: "searching.md";
    ranks: "ranks.md";
    hundred_hosts: "hundred-hosts.md";
    fabrics: "fabrics.md";
    capturing: "capturing.md";
    controlling: "controlling.md";
    marks: "marks.md";
    probes: "probes.md";
    streams: "streams.md";
    losses: "losses.md";
    misbehaving: "misbehaving.md";
    moving: "moving.md";
    path_split: "path-split.md";
    ipv6_and_vlans: "ipv6-and-vlans.md";
    vms_on_the_wire: "vms-on-the-wire.md";
    #[doc = concat!("\n", include_str!("architecture.svg"))]
    how_it_is_built: "how-it-is-built.md";
    using_the_crate: "using-the-crate.md";
    changelog: "changelog.md";
}
