//! The sysctl file for hosts, which the program carries with it: what it recommends is what the file says.

/// The file as it is in the repository.
const FILE: &str = include_str!("../../tuning/host/90-longwire-sysctl.conf");

/// A key of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// `fs.file-max`
    FileMax,
    /// `fs.nr_open`
    NrOpen,
    /// `net.core.somaxconn`
    Somaxconn,
    /// `net.ipv4.tcp_syncookies`
    Syncookies,
    /// `kernel.io_uring_disabled`
    IoUringDisabled,
    /// `net.netfilter.nf_conntrack_max`
    ConntrackMax,
}

impl Key {
    /// As sysctl(8) knows it.
    pub fn name(self) -> &'static str {
        match self {
            Key::FileMax => "fs.file-max",
            Key::NrOpen => "fs.nr_open",
            Key::Somaxconn => "net.core.somaxconn",
            Key::Syncookies => "net.ipv4.tcp_syncookies",
            Key::IoUringDisabled => "kernel.io_uring_disabled",
            Key::ConntrackMax => "net.netfilter.nf_conntrack_max",
        }
    }

    /// What the file sets it to.
    pub fn value(self) -> u64 {
        entries(FILE)
            .find(|(name, _)| *name == self.name())
            .and_then(|(_, value)| value.parse().ok())
            .expect("the file has every key, which a test sees to")
    }

    /// The command that sets it as the file does, or to `at_least` where that is more.
    pub fn command(self, at_least: u64) -> String {
        set(self.name(), self.value().max(at_least))
    }
}

/// The command that sets a key until the next boot.
pub fn set(name: &str, value: impl std::fmt::Display) -> String {
    format!("sysctl -w {name}={value}")
}

/// Keys and values of a file in the format of sysctl.d(5). The dash before a key, which lets it be missing, is left out.
fn entries(file: &str) -> impl Iterator<Item = (&str, &str)> {
    file.lines()
        .filter(|line| !line.starts_with(['#', ';']))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().trim_start_matches('-'), value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [Key; 6] = [
        Key::FileMax,
        Key::NrOpen,
        Key::Somaxconn,
        Key::Syncookies,
        Key::IoUringDisabled,
        Key::ConntrackMax,
    ];

    #[test]
    fn the_file_has_every_key_and_no_other() {
        let mut in_file: Vec<&str> = entries(FILE).map(|(name, _)| name).collect();
        let mut known: Vec<&str> = KEYS.iter().map(|key| key.name()).collect();
        in_file.sort_unstable();
        known.sort_unstable();
        assert_eq!(in_file, known);
    }

    #[test]
    fn every_line_of_the_file_has_its_reason_above_it() {
        let lines: Vec<&str> = FILE.lines().collect();
        for pair in lines.windows(2) {
            assert!(
                !pair[1].contains(" = ") || pair[1].starts_with('#') || pair[0].starts_with('#'),
                "{}",
                pair[1]
            );
        }
    }

    #[test]
    fn commands_set_what_the_file_says_or_more() {
        assert_eq!(
            Key::Somaxconn.command(70),
            "sysctl -w net.core.somaxconn=65535"
        );
        assert_eq!(
            Key::ConntrackMax.command(5_000_000),
            "sysctl -w net.netfilter.nf_conntrack_max=5000000"
        );
    }

    #[test]
    fn reads_the_format_of_sysctl_d() {
        let file = "# a = 1\n; b = 2\n\n-c.d = 3\ne=4 5\n";
        let read: Vec<_> = entries(file).collect();
        assert_eq!(read, [("c.d", "3"), ("e", "4 5")]);
    }
}
