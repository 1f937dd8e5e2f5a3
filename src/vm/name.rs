//! The names of VMs: `vm0` and so on.

use std::fmt;
use std::str::FromStr;

use super::VmId;

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vm{}", self.0)
    }
}

/// Why a text names no VM.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} names no VM; expected vm and a number, such as vm3")]
pub struct NoVmName(String);

impl FromStr for VmId {
    type Err = NoVmName;

    fn from_str(text: &str) -> Result<VmId, NoVmName> {
        let digits = text.strip_prefix("vm").unwrap_or_default();
        let is_number = digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let index = digits.parse().ok().filter(|_| is_number);
        index.map(VmId).ok_or_else(|| NoVmName(text.to_owned()))
    }
}

/// A VM in a document, by its name.
pub(crate) mod named {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::VmId;

    /// What a name looks like.
    pub(crate) const PATTERN: &str = "^vm[0-9]{1,9}$";

    pub(crate) fn serialize<S: Serializer>(vm: &VmId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(vm)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<VmId, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_vm_and_a_number_and_nothing_else() {
        for index in [0, 7, 999_999_999] {
            assert_eq!(VmId(index).to_string().parse(), Ok(VmId(index)));
        }
        for wrong in [
            "",
            "vm",
            "7",
            "vm+7",
            "vm 7",
            "vm-1",
            "vm1000000000",
            "VM7",
            "vm7\u{1b}",
        ] {
            let error = wrong.parse::<VmId>().unwrap_err().to_string();
            assert!(
                error.ends_with("expected vm and a number, such as vm3"),
                "{error}"
            );
        }
    }
}
