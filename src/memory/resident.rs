//! What the system says of the process's memory, beside what the books say.

use std::fs::File;
use std::io::{self, Read};

/// In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// Of the whole process, files that are mapped too.
    pub rss: u64,
    /// Of the allocator: live blocks, its holes, its own tables.
    pub allocator: u64,
}

/// The resident set of this process in bytes: `VmRSS` of `/proc/self/status` (proc_pid_status(5)). Allocates nothing.
pub fn resident_bytes() -> io::Result<u64> {
    let mut text = [0; 4096];
    let len = File::open("/proc/self/status")?.read(&mut text)?;
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "/proc/self/status has no VmRSS");
    kibibytes(&text[..len], b"VmRSS:").map(|kib| kib * 1024).ok_or_else(missing)
}

/// The number of a line such as `VmRSS:    1234 kB`.
fn kibibytes(text: &[u8], key: &[u8]) -> Option<u64> {
    let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key))?;
    std::str::from_utf8(line).ok()?.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_set_is_there_and_plausible() {
        let bytes = resident_bytes().unwrap();
        assert!(bytes > 100_000 && bytes < 1 << 40, "{bytes}");
    }

    #[test]
    fn a_line_without_a_number_is_none() {
        assert_eq!(kibibytes(b"VmPeak: 7 kB\nVmRSS:\t  12 kB\n", b"VmRSS:"), Some(12));
        assert_eq!(kibibytes(b"VmRSS: x kB", b"VmRSS:"), None);
        assert_eq!(kibibytes(b"", b"VmRSS:"), None);
    }
}
