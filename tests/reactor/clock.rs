//! The clock of the loop: it leaves out what the process was not let run, and nothing else.

use std::io::Write;
use std::time::Duration;

use switchboard::reactor::{Lane, Limits, Outgoing, Progress};

use crate::sockets::{Live, WATCHDOG};

/// What this thread has computed so far.
fn computed() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::from_secs(time.tv_sec.cast_unsigned()) + Duration::from_nanos(time.tv_nsec.cast_unsigned())
}

#[test]
fn the_clock_goes_on_while_there_is_work_however_long_a_turn_takes() {
    let mut live =
        Live::echo(Limits { write_deadline: Duration::from_secs(2), queue_bytes_max: 1 << 26, ..Limits::default() });
    let work = Duration::from_millis(1200);
    live.service.data = Box::new(move |_, _, data, _| {
        let began = computed();
        while computed() < began + work {}
        Progress::all(data)
    });
    let address = live.listen();
    let (_, mut busy) = live.connect(address);
    let (stuck, _kept) = live.connect(address);
    // More than any buffer of the system: the rest waits, and nobody reads.
    let much = vec![7; 1 << 25];
    live.reactor.connections().send(stuck, &mut Outgoing::to_one(&much), Lane::Traffic).expect("room");
    for _ in 0..10 {
        let (before, computed_before) = (live.reactor.clock().now(), computed());
        busy.write_all(b"work").expect("the server is there");
        live.turn(WATCHDOG);
        // The next turn begins with what it takes this one to have been.
        live.turn(Duration::ZERO);
        let (went, computed) = (live.reactor.clock().now().since(before), computed().saturating_sub(computed_before));
        assert!(2 * went >= computed, "the clock went {went:?} in a turn of {computed:?} of work");
        if live.service.end_of(stuck).is_some() {
            return;
        }
    }
    panic!("whoever is stuck stays for ever as long as there is work");
}
