//! The machine, on which a measurement depends besides its plan.

use std::sync::OnceLock;

/// The kernel and the processors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// The kernel's release, such as `6.12.48`.
    pub kernel: String,
    /// The model of the processors, where the kernel has a name for it.
    pub processor: Option<String>,
    /// How many processors are online.
    pub processors: u64,
}

/// This machine, from `/proc/sys/kernel/osrelease` and `/proc/cpuinfo`, which are read once: a running lab makes reports.
/// `None` where the kernel does not tell.
pub fn machine() -> Option<&'static Machine> {
    static MACHINE: OnceLock<Option<Machine>> = OnceLock::new();
    let machine = MACHINE.get_or_init(|| {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").ok()?;
        let (processor, processors) = processors(&cpuinfo);
        Some(Machine {
            kernel: kernel_release()?,
            processor,
            processors,
        })
    });
    machine.as_ref()
}

/// The release of the kernel, from `/proc/sys/kernel/osrelease`. `None` where it does not tell.
pub fn kernel_release() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(release.trim().to_owned())
}

/// Model and number; `arch/x86/kernel/cpu/proc.c` writes "model name", `arch/arm64/kernel/cpuinfo.c` writes none.
fn processors(cpuinfo: &str) -> (Option<String>, u64) {
    let fields = || cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let model = fields().find(|(name, _)| name.trim() == "model name");
    let number = fields().filter(|(name, _)| name.trim() == "processor");
    (
        model.map(|(_, model)| model.trim().to_owned()),
        number.count() as u64,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_named_and_counted_on_every_architecture() {
        let x86 = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: Some CPU @ 3 GHz\n\nprocessor\t: 1\nmodel name\t: Some CPU @ 3 GHz\n";
        assert_eq!(processors(x86), (Some("Some CPU @ 3 GHz".to_owned()), 2));
        let arm = "processor\t: 0\nCPU part\t: 0xd0c\n\nprocessor\t: 1\n\nprocessor\t: 2\n";
        assert_eq!(processors(arm), (None, 3));
    }

    #[test]
    fn this_machine_has_a_kernel_and_a_processor() {
        let machine = machine().expect("what /proc says");
        assert!(
            machine
                .kernel
                .starts_with(|digit: char| digit.is_ascii_digit())
        );
        assert!(machine.processors > 0);
    }
}
