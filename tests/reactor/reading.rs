//! What comes in: leases, budgets, pauses, ends and deadlines.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use switchboard::reactor::{CloseReason, Lane, Limits, Outgoing, Progress, Readiness};
use switchboard::time::Time;

use crate::support::{Bench, Script, Told, closed, message, message_bytes, small};

/// What a service may say that it wants, when it knows that a message of `length` bytes begins with `have`.
type Wanted = fn(have: usize, length: usize, random: &mut fastrand::Rng) -> usize;

const KNOWN: Wanted = |have, length, _| if have < 2 { 2 } else { length };
const UNKNOWN: Wanted = |_, _, _| 0;
const CHANGING: Wanted = |have, length, random| match random.u8(..4) {
    0 => 0,
    1 => random.usize(0..=have),
    2 => random.usize(have..=length.max(have)),
    _ => length,
};

/// Takes whole messages, and says of the next one that it wants what `wanted` says.
fn wanting(wanted: Wanted) -> Script<crate::support::Pipe> {
    let mut random = fastrand::Rng::with_seed(8);
    Script::with(move |_, conn, data, told| {
        let mut consumed = 0;
        loop {
            let rest = &data[consumed..];
            let length = message_bytes(rest).max(2);
            if rest.len() < length {
                return Progress { consumed, wanted: wanted(rest.len(), length, &mut random) };
            }
            told.push((conn, Told::Message(rest[..length].to_vec())));
            consumed += length;
        }
    })
}

/// Messages whose parts fall on both sides of the smallest lease (256 bytes) and of the scratch (1,024).
fn messages() -> Vec<Vec<u8>> {
    [5, 2, 300, 3, 1030, 2, 2, 256, 40].iter().zip(1..).map(|(length, filling)| message(*length, filling)).collect()
}

/// How many of `messages` are whole in the first `bytes` of them.
fn whole(messages: &[Vec<u8>], bytes: usize) -> usize {
    let mut end = 0;
    messages
        .iter()
        .take_while(|message| {
            end += message.len();
            end <= bytes
        })
        .count()
}

#[test]
fn a_message_is_shown_whole_and_at_once_wherever_it_is_cut() {
    let messages = messages();
    let all = messages.concat();
    for wanted in [KNOWN, UNKNOWN, CHANGING] {
        for cut in 0..=all.len() {
            let mut bench = Bench::new(small(), wanting(wanted));
            let (conn, peer) = bench.open();
            let (front, back) = all.split_at(cut);
            peer.send(front);
            bench.settle();
            let found = bench.service.messages_of(conn);
            assert_eq!(found, messages[..whole(&messages, cut)], "the front, cut at {cut}");
            peer.send(back);
            bench.settle();
            assert!(bench.service.messages_of(conn) == messages, "all, cut at {cut}");
        }
    }
}

#[test]
fn a_message_is_shown_at_once_when_its_last_byte_comes_in_many_pieces() {
    let messages = messages();
    let all = messages.concat();
    for wanted in [KNOWN, UNKNOWN, CHANGING] {
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let most = 1 << random.u32(0..11);
            let mut bench = Bench::new(small(), wanting(wanted));
            let (conn, peer) = bench.open();
            let mut sent = 0;
            while sent < all.len() {
                let count = random.usize(1..=most).min(all.len() - sent);
                peer.send(&all[sent..sent + count]);
                sent += count;
                bench.settle();
                let found = bench.service.messages_of(conn);
                assert_eq!(found.len(), whole(&messages, sent), "after {sent} bytes, seed {seed}");
            }
            assert!(bench.service.messages_of(conn) == messages);
        }
    }
}

#[test]
fn pausing_after_each_message_loses_none_and_shows_none_twice() {
    let messages = messages();
    let all = messages.concat();
    for cut in 0..=all.len() {
        let service = Script::with(|io, conn, data, told| {
            let length = message_bytes(data).max(2);
            if data.len() < length {
                return Progress { consumed: 0, wanted: length };
            }
            told.push((conn, Told::Message(data[..length].to_vec())));
            io.pause(conn);
            Progress { consumed: length, wanted: 0 }
        });
        let mut bench = Bench::new(small(), service);
        let (conn, peer) = bench.open();
        for (piece, sent) in [(&all[..cut], cut), (&all[cut..], all.len())] {
            peer.send(piece);
            if sent == all.len() {
                peer.end();
            }
            bench.settle();
            while !bench.io().is_reading(conn) && bench.io().is_open(conn) {
                let before = bench.service.messages_of(conn).len();
                bench.turn();
                assert_eq!(bench.service.messages_of(conn).len(), before, "nothing is shown in a pause");
                bench.io().resume(conn);
                bench.settle();
            }
            assert_eq!(bench.service.messages_of(conn), messages[..whole(&messages, sent)], "cut at {cut}");
        }
        assert!(bench.service.of(conn).contains(&Told::End), "the end comes after all is shown, cut at {cut}");
    }
}

#[test]
fn bytes_that_arrive_in_a_pause_wait_in_the_socket() {
    let mut bench = Bench::new(small(), Script::messages());
    let (conn, peer) = bench.open();
    bench.io().pause(conn);
    peer.send(&message(1000, 1));
    bench.settle();
    assert_eq!((peer.wire().read_calls, bench.service.messages_of(conn).len()), (0, 0));
    bench.io().resume(conn);
    bench.settle();
    assert_eq!(bench.service.messages_of(conn), [message(1000, 1)]);
}

#[test]
fn pausing_one_connection_from_another_one_s_bytes_holds_at_once() {
    let other = Rc::new(Cell::new(None));
    let victim = Rc::clone(&other);
    let service = Script::with(move |io, conn, data, told| {
        told.push((conn, Told::Message(data.to_vec())));
        if let Some(victim) = victim.get() {
            io.pause(victim);
        }
        Progress::all(data)
    });
    let mut bench = Bench::new(small(), service);
    let (first, first_peer) = bench.open();
    let (second, second_peer) = bench.open();
    other.set(Some(second));
    // Both are on the ready list when the first one is shown its byte.
    first_peer.send(b"a");
    second_peer.send(b"b");
    bench.settle();
    assert_eq!(bench.service.messages_of(first), [b"a"]);
    assert!(bench.service.messages_of(second).is_empty());
    other.set(None);
    bench.io().resume(second);
    bench.settle();
    assert_eq!(bench.service.messages_of(second), [b"b"]);
}

#[test]
fn a_drained_socket_is_known_by_a_short_read_and_a_full_one_is_read_on() {
    let mut bench = Bench::new(small(), Script::with(|_, _, data, _| Progress::all(data)));
    let (_, peer) = bench.open();
    peer.send(&[1; 100]);
    bench.settle();
    assert_eq!(peer.wire().read_calls, 1, "a short read is the last one");
    peer.send(&[1; 5 * 1024]);
    bench.settle();
    assert_eq!(bench.engine.counters().read_bytes, 100 + 5 * 1024, "no event comes for what is left");
    assert_eq!(peer.wire().read_calls, 1 + 5 + 1, "five full ones, and one that finds nothing");
}

#[test]
fn endless_input_neither_starves_others_nor_needs_a_second_event() {
    let mut bench = Bench::new(
        small(),
        Script::with(|_, conn, data, told| {
            told.push((conn, Told::Message(data.to_vec())));
            Progress::all(data)
        }),
    );
    let (endless, endless_peer) = bench.open();
    let (modest, modest_peer) = bench.open();
    endless_peer.send(&vec![1; 1 << 20]);
    let budget = 2048;
    for turn in 1..100 {
        modest_peer.send(b"x");
        bench.turn();
        assert_eq!(bench.service.messages_of(modest).len(), turn, "the modest one is served in every turn");
        let served: usize = bench.service.messages_of(endless).iter().map(Vec::len).sum();
        assert_eq!(served, turn * budget, "the endless one gets its budget and no more");
    }
    bench.settle();
    let served: usize = bench.service.messages_of(endless).iter().map(Vec::len).sum();
    assert_eq!(served, 1 << 20);
}

#[test]
fn spurious_events_do_nothing() {
    let mut bench = Bench::new(small(), Script::messages());
    let (conn, peer) = bench.open();
    let everything = Readiness { readable: true, writable: true, ends: true, failed: false };
    for readiness in [Readiness { readable: true, ..Readiness::default() }, everything] {
        bench.engine.note(conn, readiness);
        bench.settle();
    }
    let mut wire = peer.wire();
    assert_eq!((wire.write_calls, wire.closed), (0, false));
    assert_eq!(std::mem::take(&mut wire.read_calls), 2, "each announcement is looked at once");
    drop(wire);
    peer.send(&message(10, 1));
    bench.settle();
    assert_eq!(bench.service.of(conn), [Told::Message(message(10, 1))]);
}

#[test]
fn an_event_for_a_connection_that_has_gone_does_not_reach_its_successor() {
    let mut bench = Bench::new(small(), Script::messages());
    let (first, _) = bench.open();
    bench.io().abort(first, CloseReason::Aborted);
    bench.settle();
    let (second, peer) = bench.open();
    assert_eq!((first.index(), second.index()), (0, 0), "the slot is used again");
    bench.settle();
    let calls = peer.wire().read_calls;
    bench.engine.note(first, Readiness { readable: true, writable: true, ends: true, failed: true });
    bench.settle();
    assert_eq!(peer.wire().read_calls, calls);
    assert!(!peer.wire().closed);
    // Nor does anything that a service does with the old name.
    let io = bench.io();
    io.abort(first, CloseReason::Aborted);
    io.close(first);
    io.pause(first);
    io.set_deadline(first, Some(Time::ZERO));
    assert!(io.send(first, &mut Outgoing::to_one(b"x"), Lane::Traffic).is_err());
    assert!(!io.is_open(first) && io.is_reading(second));
    bench.settle();
    assert!(bench.service.of(second).is_empty() && peer.output().is_empty());
}

#[test]
fn an_end_is_told_after_everything_sent_before_it_whenever_it_comes() {
    let all = [message(300, 1), message(1030, 2)].concat();
    for (pieces, settle_between) in [(1, false), (1, true), (7, true), (1332, true)] {
        let mut bench = Bench::new(small(), Script::messages());
        let (conn, peer) = bench.open();
        for piece in all.chunks(all.len().div_ceil(pieces)) {
            peer.send(piece);
            if settle_between {
                bench.settle();
            }
        }
        peer.end();
        bench.settle();
        let expected =
            [Told::Message(message(300, 1)), Told::Message(message(1030, 2)), Told::End, closed(CloseReason::Finished)];
        assert_eq!(bench.service.of(conn), expected);
        assert!(peer.wire().shut && peer.wire().closed);
    }
}

#[test]
fn an_end_with_a_message_cut_off_is_told_and_the_part_is_forgotten() {
    let all = message(1030, 1);
    for cut in [1, 2, 3, 255, 256, 257, 1023, 1024, 1025, 1029] {
        let mut bench = Bench::new(small(), Script::messages());
        let (conn, peer) = bench.open();
        peer.send(&all[..cut]);
        peer.end();
        bench.settle();
        assert_eq!(bench.service.of(conn), [Told::End, closed(CloseReason::Finished)], "cut at {cut}");
    }
}

#[test]
fn a_connection_that_stays_open_after_its_peer_s_end_can_still_answer_and_still_fail() {
    let mut service = Script::messages();
    service.end = Some(Box::new(|_, _| {}));
    let mut bench = Bench::new(small(), service);
    let (conn, peer) = bench.open();
    peer.end();
    bench.settle();
    bench.io().send(conn, &mut Outgoing::to_one(&message(100, 1)), Lane::Traffic).expect("it is open");
    bench.settle();
    assert_eq!(peer.output(), message(100, 1));
    peer.reset();
    bench.settle();
    assert_eq!(bench.service.of(conn), [Told::End, closed(CloseReason::Reset)], "nothing is read or written any more");
}

#[test]
fn a_reset_before_anything_is_read_is_told_once() {
    for paused in [false, true] {
        let mut bench = Bench::new(small(), Script::messages());
        let (conn, peer) = bench.open();
        if paused {
            bench.io().pause(conn);
        }
        peer.send(&message(10, 1));
        peer.reset();
        bench.settle();
        assert_eq!(bench.service.of(conn), [closed(CloseReason::Reset)], "paused: {paused}");
        assert!(bench.io().is_empty());
    }
}

#[test]
fn a_reset_within_a_message_is_told_once() {
    let mut bench = Bench::new(small(), Script::messages());
    let (conn, peer) = bench.open();
    peer.send(&message(1000, 1)[..500]);
    bench.settle();
    peer.reset();
    bench.settle();
    assert_eq!(bench.service.of(conn), [closed(CloseReason::Reset)]);
}

#[test]
fn a_service_may_close_or_abort_within_a_message_that_was_held() {
    for abort in [false, true] {
        let service = Script::with(move |io, conn, data, _| {
            if data.len() < 10 {
                return Progress { consumed: 0, wanted: 10 };
            }
            if abort {
                io.abort(conn, CloseReason::Aborted);
            } else {
                io.close(conn);
            }
            Progress { consumed: 3, wanted: 20 }
        });
        let mut bench = Bench::new(small(), service);
        for _ in 0..10 {
            let (conn, peer) = bench.open();
            peer.send(b"12345");
            bench.settle();
            peer.send(&[0; 3000]);
            peer.end();
            bench.settle();
            let reason = if abort { CloseReason::Aborted } else { CloseReason::Finished };
            assert_eq!(bench.service.of(conn), [closed(reason)]);
            assert!(peer.wire().closed);
        }
    }
}

#[test]
fn a_message_above_the_limit_ends_its_connection_before_it_is_waited_for() {
    // Announced, at the first bytes and after others; and not announced, growing.
    let announced = |first: usize| {
        Script::with(move |_, _, data, _| {
            if data.len() < first {
                Progress { consumed: 0, wanted: first }
            } else {
                Progress { consumed: 0, wanted: 4097 }
            }
        })
    };
    for service in [announced(0), announced(20), Script::with(|_, _, _, _| Progress { consumed: 0, wanted: 0 })] {
        let mut bench = Bench::new(small(), service);
        let (conn, peer) = bench.open();
        peer.send(b"0123456789");
        bench.settle();
        for _ in 0..500 {
            peer.send(b"0123456789");
            bench.settle();
        }
        assert_eq!(bench.service.of(conn), [closed(CloseReason::InputTooLarge)]);
        assert!(bench.engine.counters().read_bytes <= 4096 + 1024, "{}", bench.engine.counters().read_bytes);
    }
}

#[test]
fn the_limit_of_a_message_is_the_one_that_was_set_even_below_the_size_of_a_read() {
    let limits = Limits { input_bytes_max: 100, ..small() };
    for (wanted, unknown, ends) in [(100, 100, false), (101, 101, true)] {
        let mut bench = Bench::new(limits, Script::with(move |_, _, _, _| Progress { consumed: 0, wanted }));
        let (conn, peer) = bench.open();
        peer.send(b"x");
        bench.settle();
        assert_eq!(bench.service.end_of(conn).is_some(), ends, "{wanted} bytes are wanted");

        let mut bench = Bench::new(limits, Script::with(|_, _, _, _| Progress { consumed: 0, wanted: 0 }));
        let (conn, peer) = bench.open();
        peer.send(&vec![b'x'; unknown]);
        bench.settle();
        assert_eq!(bench.service.end_of(conn).is_some(), ends, "{unknown} bytes are there");
    }
}

#[test]
fn a_message_of_exactly_the_limit_gets_through_when_its_length_is_not_known_before() {
    let limits = Limits { input_bytes_max: 2000, ..small() };
    let service = Script::with(|_, conn, data, told| {
        if !data.ends_with(b"\n") {
            return Progress { consumed: 0, wanted: 0 };
        }
        told.push((conn, Told::Message(data.to_vec())));
        Progress::all(data)
    });
    let mut bench = Bench::new(limits, service);
    let (conn, peer) = bench.open();
    peer.send(&[b'x'; 1000]);
    bench.settle();
    peer.send(&[b'x'; 999]);
    bench.settle();
    peer.send(b"\n");
    bench.settle();
    assert_eq!(bench.service.messages_of(conn).len(), 1);
}

#[test]
fn an_incomplete_message_has_until_its_deadline_however_often_a_byte_of_it_comes() {
    for wanted in [KNOWN, UNKNOWN] {
        incomplete_until_its_deadline(wanted);
    }
}

fn incomplete_until_its_deadline(wanted: Wanted) {
    let limits = Limits { input_deadline: Duration::from_secs(10), ..small() };
    let mut bench = Bench::new(limits, wanting(wanted));
    let (slow, slow_peer) = bench.open();
    let (quick, quick_peer) = bench.open();
    slow_peer.send(&message(1000, 1)[..1]);
    for second in 1..10_u8 {
        bench.pass(Duration::from_secs(1));
        slow_peer.send(&message(1000, 1)[usize::from(second)..=usize::from(second)]);
        // This one begins a message each second, and ends the one before.
        quick_peer.send(&[&message(50, second - 1)[usize::from(second > 1)..], &[0]].concat());
    }
    bench.settle();
    assert!(bench.service.of(slow).is_empty(), "nine seconds are in time");
    bench.pass(Duration::from_secs(1) + Duration::from_millis(100));
    assert_eq!(bench.service.of(slow), [Told::Overdue, closed(CloseReason::InputOverdue)]);
    for second in 10..25_u8 {
        quick_peer.send(&[&message(50, second - 1)[1..], &[0]].concat());
        bench.pass(Duration::from_secs(1));
    }
    assert_eq!((bench.service.messages_of(quick).len(), bench.service.end_of(quick)), (24, None));
}

#[test]
fn a_message_is_not_overdue_while_its_service_pauses() {
    let limits = Limits { input_deadline: Duration::from_secs(10), ..small() };
    let mut bench = Bench::new(limits, Script::messages());
    let (conn, peer) = bench.open();
    peer.send(&message(1000, 1)[..500]);
    bench.pass(Duration::from_secs(5));
    bench.io().pause(conn);
    peer.send(&message(1000, 1)[500..]);
    bench.pass(Duration::from_secs(100));
    bench.io().resume(conn);
    bench.settle();
    assert_eq!(bench.service.of(conn), [Told::Message(message(1000, 1))]);
    // After a pause the whole time is there again, and then it is over.
    peer.send(&message(1000, 1)[..500]);
    bench.settle();
    bench.io().pause(conn);
    bench.pass(Duration::from_secs(100));
    bench.io().resume(conn);
    bench.pass(Duration::from_secs(9));
    assert_eq!(bench.service.end_of(conn), None);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.service.end_of(conn), Some(closed(CloseReason::InputOverdue)));
}

#[test]
fn a_deadline_comes_once_and_only_the_last_one_that_was_set() {
    let mut bench = Bench::new(small(), Script::messages());
    let (conn, _) = bench.open();
    let start = bench.now;
    let second = Duration::from_secs(1);
    // Moved away, moved closer, and taken back.
    for (sets, comes_after) in [
        (&[Some(5), Some(200)][..], Some(200)),
        (&[Some(500), Some(3)], Some(3)),
        (&[Some(5), None], None),
        (&[Some(100_000)], Some(100_000)),
    ] {
        bench.service.told.clear();
        let now = bench.now;
        for seconds in sets {
            bench.io().set_deadline(conn, seconds.map(|seconds| now + second * seconds));
        }
        if let Some(seconds) = comes_after {
            bench.pass(second * (seconds - 1) + Duration::from_millis(999));
            assert!(bench.service.told.is_empty(), "{sets:?} came early");
            bench.pass(Duration::from_millis(101));
            assert_eq!(bench.service.told, [(conn, Told::Deadline)], "{sets:?}");
        }
        bench.pass(second * 1000);
        assert_eq!(bench.service.told.len(), usize::from(comes_after.is_some()), "{sets:?}");
    }
    assert!(bench.now > start);
    assert_eq!(bench.engine.wait(bench.now), None, "nothing is left to wait for");
}

#[test]
fn those_who_send_more_than_anybody_can_take_share_one_budget_and_each_gets_on() {
    let mut bench = Bench::new(small(), Script::messages());
    let budget = bench.engine.connections.limits().read_turn_bytes_max;
    let flooders: Vec<_> = (0..10).map(|_| bench.open()).collect();
    let (modest, peer) = bench.open();
    bench.settle();
    let served = |bench: &Bench, conn| bench.service.messages_of(conn).iter().map(Vec::len).sum::<usize>();
    for (_, flooder) in &flooders {
        flooder.send(&message(1000, 3).repeat(100));
    }
    bench.turn();
    let mut before: usize = flooders.iter().map(|(conn, _)| served(&bench, *conn)).sum();
    for turn in 1..=30 {
        peer.send(&message(10, 7));
        bench.turn();
        assert_eq!(bench.service.messages_of(modest).len(), turn, "the modest one waits");
        let all: usize = flooders.iter().map(|(conn, _)| served(&bench, *conn)).sum();
        assert!(all > before && all - before <= 2 * budget, "{} bytes in a turn", all - before);
        before = all;
    }
    let least = flooders.iter().map(|(conn, _)| served(&bench, *conn)).min().expect("ten");
    assert!(least >= 3 * budget / 2, "one of them got {least} bytes");
    bench.settle();
    assert!(flooders.iter().all(|(conn, _)| served(&bench, *conn) == 100_000));
}

#[test]
fn a_deadline_in_the_far_future_is_not_one_in_the_near_past() {
    let mut bench = Bench::new(small(), Script::messages());
    let (conn, _) = bench.open();
    // Deadlines are kept in units of 2^16 microseconds in four bytes.
    for micros in [(1 << 48) - 1, 1 << 48, (1 << 48) + 10_000_000, u64::MAX] {
        bench.io().set_deadline(conn, Some(Time::from_micros(micros)));
        bench.pass(Duration::from_secs(1000));
        assert!(bench.service.told.is_empty(), "{micros} microseconds");
    }
}

#[test]
fn when_many_end_at_once_the_others_are_served_first_and_nobody_comes_before_they_are_gone() {
    let mut bench = Bench::new(small(), Script::messages());
    let most = bench.engine.connections.limits().endings_turn_max;
    let gone: Vec<_> = (0..3 * most).map(|_| bench.open()).collect();
    let (stays, peer) = bench.open();
    bench.settle();
    for (_, peer) in &gone {
        peer.end();
    }
    peer.send(&message(10, 7));
    bench.turn();
    assert!(bench.service.told.contains(&(stays, Told::Message(message(10, 7)))), "it waited for those that left");
    let closed = |bench: &Bench| bench.service.told.iter().filter(|(_, told)| *told == Told::End).count();
    assert_eq!(closed(&bench), most);
    bench.engine.connections.check_consistency();
    bench.settle();
    assert_eq!(closed(&bench), 3 * most);
    assert_eq!(bench.io().len(), 1);
}
