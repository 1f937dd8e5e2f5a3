//! Two network namespaces that a cable connects: the one in which the program is started, and another one.

use serde_json::Value;

use crate::lab::{Lab, Running, wait_until};

/// The address of what is at the other end. No VM has it.
pub const OUTSIDE: &str = "10.77.200.1";

/// The namespace in which the program is started, and another one behind an interface of it.
pub struct Cable {
    pub host: Lab,
    pub other: Lab,
    /// The name of the interface.
    name: &'static str,
    /// The options by which a run uses it.
    fabric: &'static str,
}

impl Cable {
    /// Connects namespaces, which send nothing by themselves, by an interface called `name`, for runs with the options `fabric`.
    pub fn new(name: &'static str, fabric: &'static str) -> Cable {
        let (host, other) = (quiet(), quiet());
        host.ip(&format!(
            "link add {name} type veth peer name eth0 netns {}",
            other.name()
        ));
        host.ip(&format!("link set {name} up"));
        other.ip(&format!("address add {OUTSIDE}/16 dev eth0"));
        other.ip("link set eth0 up");
        Cable {
            host,
            other,
            name,
            fabric,
        }
    }

    /// All that the kernel says of the interface.
    pub fn interface(&self) -> Vec<Value> {
        let mut all = self
            .host
            .ip_json(&format!("-d address show dev {}", self.name));
        all.extend(
            self.host
                .ip_json(&format!("-d link show dev {}", self.name)),
        );
        all
    }

    /// Starts a run of three VMs, of which vm1 pings what is outside, and waits until a VM answers.
    pub fn start(&self, more: &str) -> Running {
        let mut run = self.host.start_tap_reactor(&format!(
            "--vms 3 {} --ping vm1:{OUTSIDE} --interval 20ms --json {more}",
            self.fabric
        ));
        let ping = ["ping", "-c1", "-W1", "10.77.0.2"];
        wait_until("a VM that answers", || {
            run.expect_alive();
            (self.other.run(&ping).status == 0).then_some(())
        });
        run
    }
}

/// A namespace whose interfaces send nothing by themselves.
pub fn quiet() -> Lab {
    let lab = Lab::new();
    let off = "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6";
    lab.run(&["sh", "-c", off]).expect_status(0);
    lab
}
