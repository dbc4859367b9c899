//! Threads as the system knows them.

use std::time::Duration;

thread_local! {
    static ID: Option<u32> = read();
}

/// Returns the number that the system has for the calling thread, where it tells.
pub(super) fn id() -> Option<u32> {
    ID.try_with(|id| *id).ok().flatten()
}

fn read() -> Option<u32> {
    // It links to `PID/task/TID`.
    let link = std::fs::read_link("/proc/thread-self").ok()?;
    link.file_name()?.to_str()?.parse().ok()
}

/// Returns the time for which a thread of this process has run on a processor.
pub(super) fn cpu_time(id: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{id}/schedstat")).ok()?;
    let nanos = text.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_knows_its_number_and_its_time() {
        let (own, other) = (id(), std::thread::spawn(id).join().unwrap());
        assert!(own.is_some() && own != other);
        assert!(cpu_time(own.unwrap()).unwrap() > Duration::ZERO);
        assert_eq!(cpu_time(u32::MAX), None);
    }
}
