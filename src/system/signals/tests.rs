use super::*;
use mio::unix::SourceFd;
use mio::{Interest, Token};
use nix::sys::signal::raise;

#[test]
fn stop_signals_are_read_instead_of_ending_the_process_and_at_the_end_do_nothing() {
    let _alone = ONE_TEST_AT_A_TIME.lock();
    let mut signals = StopSignals::new().unwrap();
    let mut poll = mio::Poll::new().unwrap();
    let mut events = mio::Events::with_capacity(4);
    poll.registry()
        .register(
            &mut SourceFd(&signals.as_raw_fd()),
            Token(3),
            Interest::READABLE,
        )
        .unwrap();
    assert_eq!(signals.take().unwrap(), None);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        raise(signal).unwrap(); // to this thread alone
        poll.poll(&mut events, Some(Duration::from_secs(10)))
            .unwrap();
        assert_eq!(events.iter().count(), 1);
        assert_eq!(signals.take().unwrap(), Some(signal));
        assert_eq!(signals.take().unwrap(), None);
    }

    // Nobody writes into the pipe: what ends the wait is the signal, or the time.
    let (reader, _writer) = std::io::pipe().unwrap();
    let soon = || Some(MonotonicClock.now() + Duration::from_millis(5));
    handler::forget_arrivals();
    raise(Signal::SIGTERM).unwrap();
    let waited = signals
        .collect()
        .unwrap()
        .wait_for(reader.as_fd(), None)
        .unwrap();
    assert_eq!(waited, Waited::Signal(Signal::SIGTERM));
    raise(Signal::SIGTERM).unwrap(); // an echo
    let waited = signals
        .collect()
        .unwrap()
        .wait_for(reader.as_fd(), soon())
        .unwrap();
    assert_eq!(waited, Waited::TimeOut);

    // As if each had come while nobody looked: all pending, and then some more.
    handler::forget_arrivals();
    raise(Signal::SIGHUP).unwrap();
    raise(Signal::SIGTERM).unwrap();
    signals.guard_end(false).unwrap();
    raise(Signal::SIGINT).unwrap();
    let mask = SigSet::thread_get_mask().unwrap();
    assert!(!signals.signals.iter().any(|signal| mask.contains(signal)));
    let waited = signals
        .collect()
        .unwrap()
        .wait_for(reader.as_fd(), soon())
        .unwrap();
    assert_eq!(waited, Waited::TimeOut);
    assert_eq!(SigSet::thread_get_mask().unwrap(), mask);
}
