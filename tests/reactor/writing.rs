//! What goes out: queues, their limits and their deadlines.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use switchboard::reactor::{CloseReason, ConnId, Lane, Limits, Outgoing, Progress, SendError};

use crate::support::{Bench, Peer, Script, Told, closed, message, message_bytes, small};

/// Bytes of a block of a queue.
const BLOCK: usize = 4096;

pub(crate) fn send(bench: &mut Bench, conn: ConnId, bytes: &[u8]) -> Result<(), SendError> {
    let sent = bench.io().send(conn, &mut Outgoing::to_one(bytes), Lane::Traffic);
    bench.engine.connections.check_consistency();
    sent
}

/// A connection that takes `room` bytes and then blocks.
pub(crate) fn open_with_room(bench: &mut Bench, room: usize) -> (ConnId, Peer) {
    let (conn, peer) = bench.open();
    peer.take(room);
    bench.settle();
    (conn, peer)
}

#[test]
fn everything_arrives_in_order_however_little_a_write_takes() {
    for write_max in [1, 2, 7, 100, 4095, 4096, 4097] {
        let mut bench = Bench::new(small(), Script::messages());
        let (conn, peer) = bench.open();
        peer.wire().write_max = write_max;
        let mut all = Vec::new();
        for (length, filling) in [3, 100, 5000, 2048, 2, 2047, 4096].into_iter().zip(1..) {
            all.extend(message(length, filling));
            send(&mut bench, conn, &message(length, filling)).expect("room");
        }
        bench.settle();
        assert!(peer.output() == all, "{write_max} bytes at a time");
        assert_eq!(bench.io().written_bytes(conn), all.len() as u64);
        assert_eq!((bench.io().queued_bytes(conn), bench.io().buffered_total_bytes()), (0, 0));
    }
}

#[test]
fn everything_arrives_in_order_however_often_the_network_blocks() {
    for room in [1, 3, 500, 2048, 4096, 5000] {
        let mut bench = Bench::new(small(), Script::messages());
        let (conn, peer) = open_with_room(&mut bench, room);
        let mut all = Vec::new();
        for (length, filling) in [2048, 3, 100, 5000, 2048, 2].into_iter().zip(1..) {
            all.extend(message(length, filling));
            send(&mut bench, conn, &message(length, filling)).expect("room");
            bench.settle();
        }
        while peer.output().len() < all.len() {
            let before = peer.output().len();
            peer.take(room);
            bench.settle();
            assert!(peer.output().len() > before, "it has stopped after {before} bytes");
        }
        assert!(peer.output() == all, "{room} bytes at a time");
    }
}

/// A turn in which a service sends so many messages of 100 bytes; says how many writes were made before its end,
/// and how many in all.
fn turn_with(bench: &mut Bench, conn: ConnId, peer: &Peer, messages: usize) -> (usize, usize) {
    let before = peer.wire().write_calls;
    bench.engine.begin_turn(bench.now);
    for filling in 0..messages {
        send(bench, conn, &message(100, filling as u8)).expect("room");
    }
    let at_once = peer.wire().write_calls - before;
    bench.engine.flush(&mut bench.service, bench.now);
    bench.engine.connections.check_consistency();
    (at_once, peer.wire().write_calls - before)
}

#[test]
fn a_turn_s_small_messages_are_one_write_and_a_second_where_nobody_expected_them() {
    let mut bench = Bench::new(small(), Script::messages());
    let (conn, peer) = bench.open();
    assert_eq!(turn_with(&mut bench, conn, &peer, 50), (1, 2), "the first comes alone, for all that is known");
    for _ in 0..1000 {
        assert_eq!(turn_with(&mut bench, conn, &peer, 50), (0, 1));
    }
    assert_eq!(peer.output().len(), 100 * 50 * 1001);
}

#[test]
fn a_small_message_that_comes_alone_is_written_at_once() {
    let mut bench = Bench::new(small(), Script::messages());
    let (conn, peer) = bench.open();
    for _ in 0..1000 {
        assert_eq!(turn_with(&mut bench, conn, &peer, 1), (1, 1));
    }
    // Two in a turn have it gather, until a turn brings but one.
    let turns = [(2, (1, 2)), (2, (0, 1)), (0, (0, 0)), (3, (0, 1)), (1, (0, 1)), (1, (1, 1))];
    for (messages, writes) in turns {
        assert_eq!(turn_with(&mut bench, conn, &peer, messages), writes, "{messages} messages");
    }
}

#[test]
fn a_long_message_is_written_at_once_only_where_nothing_waits() {
    let mut bench = Bench::new(small(), Script::messages());
    let (idle, idle_peer) = bench.open();
    let (busy, busy_peer) = bench.open();
    send(&mut bench, idle, &message(2048, 1)).expect("room");
    assert_eq!(idle_peer.output(), message(2048, 1), "written through");
    send(&mut bench, busy, &message(10, 2)).expect("room");
    send(&mut bench, busy, &message(2048, 3)).expect("room");
    assert!(busy_peer.output().is_empty(), "it would overtake what waits");
    send(&mut bench, idle, &message(2047, 4)).expect("room");
    assert_eq!(idle_peer.output().len(), 2048, "a short one is written with others");
    bench.settle();
    assert_eq!(busy_peer.output(), [message(10, 2), message(2048, 3)].concat());
    assert_eq!(idle_peer.output(), [message(2048, 1), message(2047, 4)].concat());
}

#[test]
fn a_message_for_many_reaches_each_of_them_whole_whatever_each_one_takes() {
    let mut bench = Bench::new(small(), Script::messages());
    let rooms = [usize::MAX, 0, 1, 1000, 5000, 4999];
    let peers: Vec<_> = rooms.iter().map(|room| open_with_room(&mut bench, *room)).collect();
    let text = message(5000, 9);
    for round in 0..2 {
        let mut outgoing = Outgoing::to_many(&text);
        for (conn, _) in &peers {
            bench.io().send(*conn, &mut outgoing, Lane::Traffic).expect("room");
        }
        bench.settle();
        assert_eq!(peers[0].1.output().len(), (round + 1) * text.len());
    }
    for (_, peer) in &peers {
        peer.take(usize::MAX);
    }
    bench.settle();
    for (_, peer) in &peers {
        assert!(peer.output() == text.repeat(2));
    }
}

#[test]
fn a_full_queue_refuses_traffic_whole_and_keeps_its_reserve_for_the_service() {
    let limits = Limits { queue_bytes_max: 1000, queue_reserve_bytes: 100, ..small() };
    let mut bench = Bench::new(limits, Script::messages());
    let (conn, peer) = open_with_room(&mut bench, 0);
    send(&mut bench, conn, &message(600, 1)).expect("room");
    send(&mut bench, conn, &message(400, 2)).expect("room to the last byte");
    assert_eq!(send(&mut bench, conn, &message(2, 3)), Err(SendError::Full));
    let control = |bench: &mut Bench, length| {
        let text = message(length, 4);
        bench.io().send(conn, &mut Outgoing::to_one(&text), Lane::Control)
    };
    control(&mut bench, 60).expect("the reserve");
    assert_eq!(control(&mut bench, 41), Err(SendError::Full));
    control(&mut bench, 40).expect("the reserve to its last byte");
    assert_eq!((bench.io().queued_bytes(conn), bench.engine.counters().refused_sends), (1100, 2));
    peer.take(usize::MAX);
    bench.settle();
    assert_eq!(peer.output(), [message(600, 1), message(400, 2), message(60, 4), message(40, 4)].concat());
    send(&mut bench, conn, &message(600, 5)).expect("there is room again");
}

#[test]
fn past_the_budget_of_all_queues_the_largest_goes_and_the_others_stay() {
    // Blocks of 4 KiB count, however much of them is used: five, and a little.
    let limits = Limits { buffered_total_bytes_max: 5 * BLOCK + 400, ..small() };
    let mut bench = Bench::new(limits, Script::messages());
    let peers: Vec<_> = (0..4).map(|_| open_with_room(&mut bench, 0)).collect();
    for ((conn, _), length) in peers.iter().zip([1000, 5000, 3000, 1000]) {
        send(&mut bench, *conn, &message(length, 1)).expect("room");
        bench.settle();
    }
    send(&mut bench, peers[0].0, &message(500, 2)).expect("room is made");
    assert_eq!(bench.io().buffered_total_bytes(), 3 * BLOCK);
    assert_eq!(send(&mut bench, peers[1].0, &message(2, 2)), Err(SendError::Gone));
    bench.settle();
    let end = Told::Close { reason: CloseReason::MemoryPressure, cut: Vec::new(), whole: message(5000, 1) };
    assert_eq!(bench.service.end_of(peers[1].0), Some(end));
    assert!(peers.iter().all(|(conn, peer)| peer.wire().closed == (*conn == peers[1].0)));
    // Even if the largest is the one that is sent to.
    send(&mut bench, peers[2].0, &message(4000, 3)).expect("room");
    assert_eq!(send(&mut bench, peers[2].0, &message(4600, 4)), Err(SendError::Gone));
    assert_eq!(bench.io().buffered_total_bytes(), 2 * BLOCK);
    bench.settle();
}

#[test]
fn what_many_wait_for_costs_its_memory_once_and_nobody_is_ended_for_it() {
    let limits = Limits { buffered_total_bytes_max: 10 * BLOCK, queue_bytes_max: 8 * BLOCK, ..small() };
    let mut bench = Bench::new(limits, Script::messages());
    let peers: Vec<_> = (0..50).map(|_| open_with_room(&mut bench, 0)).collect();
    let text = message(5000, 1);
    let mut outgoing = Outgoing::to_many(&text);
    for (conn, _) in &peers {
        bench.io().send(*conn, &mut outgoing, Lane::Traffic).expect("it is there already");
    }
    drop(outgoing);
    bench.settle();
    assert!(bench.io().buffered_total_bytes() < 5000 + 50 * 100);
    // Past the budget, with nobody who holds much: what is refused is the message.
    let mut refused = 0;
    for (conn, _) in &peers {
        refused += u32::from(send(&mut bench, *conn, &message(3000, 2)) == Err(SendError::Full));
    }
    assert!(refused > 30, "{refused}");
    bench.settle();
    assert!(peers.iter().all(|(conn, _)| bench.service.end_of(*conn).is_none()), "nobody is ended");
    for (_, peer) in &peers {
        peer.take(usize::MAX);
    }
    bench.settle();
    assert_eq!(bench.io().buffered_total_bytes(), 0);
}

#[test]
fn what_many_wait_for_is_put_down_to_those_who_do_not_read_it() {
    let limits = Limits { buffered_total_bytes_max: 128 * 1024, queue_bytes_max: 64 * 1024, ..small() };
    let mut bench = Bench::new(limits, Script::messages());
    let stuck: Vec<_> = (0..4).map(|_| bench.open()).collect();
    let innocent: Vec<_> = (0..20).map(|_| bench.open()).collect();
    for round in 0..10 {
        // Each of them waits for messages that are shared, and that no queue has the memory of.
        for (conn, peer) in &stuck {
            peer.take(0);
            let text = message(5000, round);
            let _ = bench.io().send(*conn, &mut Outgoing::to_many(&text), Lane::Traffic);
        }
        bench.turn();
    }
    for (_, peer) in &innocent {
        peer.send(&message(4000, 7)[..300]);
        bench.turn();
    }
    bench.settle();
    assert!(innocent.iter().all(|(conn, _)| bench.service.end_of(*conn).is_none()), "somebody who keeps up is ended");
    let ended = stuck.iter().filter(|(conn, _)| bench.service.end_of(*conn).is_some()).count();
    assert!(ended > 0, "nobody makes room");
}

#[test]
fn memory_that_comes_back_at_the_end_of_the_turn_is_not_asked_for_twice() {
    let limits = Limits { buffered_total_bytes_max: 256 * 1024, queue_bytes_max: 64 * 1024, ..small() };
    let mut bench = Bench::new(limits, Script::messages());
    let stuck: Vec<_> = (0..16).map(|_| open_with_room(&mut bench, 0)).collect();
    for (conn, _) in &stuck {
        // What is shared comes back when its last reader has been freed, at the end of the turn.
        for filling in 0..4 {
            let text = message(4096 - 64, filling);
            bench.io().send(*conn, &mut Outgoing::to_many(&text), Lane::Traffic).expect("room");
        }
    }
    bench.settle();
    let innocent: Vec<_> = (0..40).map(|_| bench.open()).collect();
    bench.settle();
    for (_, peer) in &innocent {
        peer.send(&message(1000, 7)[..300]);
    }
    bench.turn();
    let ended =
        |conns: &[(ConnId, Peer)]| conns.iter().filter(|(conn, _)| bench.service.end_of(*conn).is_some()).count();
    assert_eq!(ended(&innocent), 0, "those who began a message go for what the stuck hold");
    assert!((1..=4).contains(&ended(&stuck)), "{} of 16 went, for 42 KiB that were missing", ended(&stuck));
}

#[test]
fn whoever_keeps_up_is_written_to_though_the_budget_is_used_up() {
    let mut bench = Bench::new(
        Limits { buffered_total_bytes_max: 32 * 1024, queue_bytes_max: 64 * 1024, ..small() },
        Script::messages(),
    );
    let stuck: Vec<_> = (0..8).map(|_| bench.open()).collect();
    let (conn, peer) = bench.open();
    for (stuck, stuck_peer) in &stuck {
        stuck_peer.take(0);
        send(&mut bench, *stuck, &message(3000, 1)).expect("room");
        bench.turn();
    }
    let mut all = Vec::new();
    for filling in 0..4 {
        // The second of a turn would wait for its end if there were memory.
        all.extend(message(100, filling));
        assert_eq!(send(&mut bench, conn, &message(100, filling)), Ok(()));
    }
    bench.settle();
    assert!(peer.output() == all, "{} of {} bytes", peer.output().len(), all.len());
    peer.take(0);
    assert_eq!(send(&mut bench, conn, &message(100, 9)), Err(SendError::Full));
    peer.take(30);
    bench.settle();
    assert_eq!(send(&mut bench, conn, &message(100, 9)), Ok(()), "what was begun is finished, at the cost of another");
    peer.take(usize::MAX);
    bench.settle();
    all.extend(message(100, 9));
    assert!(peer.output() == all);
}

#[test]
fn what_a_service_says_when_it_hears_of_an_end_is_not_left_for_the_next_event() {
    let mut bench = Bench::new(small(), Script::messages());
    let (_, peer) = bench.open();
    bench.settle();
    peer.reset();
    bench.turn();
    assert!(bench.engine.has_work(), "the service's last word of the turn comes before it hears of the end");
    bench.settle();
    assert!(!bench.engine.has_work());
}

#[test]
fn a_connection_that_causes_too_much_work_goes_on_in_the_next_turn() {
    let limits = Limits { turn_work_max: 10, ..small() };
    let mut bench = Bench::new(
        limits,
        Script::with(|io, conn, data, _| {
            // A service that answers each byte, as long as it may.
            let mut consumed = 0;
            while io.is_reading(conn) && consumed < data.len() {
                io.send(conn, &mut Outgoing::to_one(&data[consumed..=consumed]), Lane::Traffic).expect("room");
                consumed += 1;
            }
            Progress { consumed, wanted: 0 }
        }),
    );
    let (_, peer) = bench.open();
    let text: Vec<u8> = (0..95).collect();
    peer.send(&text);
    let mut turns = 0;
    while bench.engine.has_work() || turns == 0 {
        bench.turn();
        turns += 1;
        assert!(peer.output().len() <= 10 * turns);
    }
    assert_eq!(peer.output(), text);
    assert!((10..15).contains(&turns), "{turns} turns");
}

#[test]
fn unfinished_messages_count_in_the_budget_and_the_largest_goes_first() {
    let limits = Limits { buffered_total_bytes_max: 10_000, ..small() };
    let mut bench = Bench::new(limits, Script::messages());
    let peers: Vec<_> = (0..6).map(|_| bench.open()).collect();
    // A beginning each, of a message that will need a buffer of 1, 4 or 2 KiB and room for a header.
    for ((_, peer), length) in peers.iter().zip([1000, 4000, 2000, 1000, 1000]) {
        peer.send(&message(length, 1)[..10]);
        bench.settle();
    }
    assert_eq!(bench.io().buffered_total_bytes(), 1024 + 4096 + 2048 + 1024 + 1024 + 5 * 64);
    peers[5].1.send(&message(2000, 1)[..10]);
    bench.settle();
    assert_eq!(bench.service.end_of(peers[1].0), Some(closed(CloseReason::MemoryPressure)));
    assert_eq!(bench.io().buffered_total_bytes(), 1024 + 2048 + 1024 + 1024 + 2048 + 5 * 64);
    // The others finish their messages, and nothing is held any more.
    for ((conn, peer), length) in
        peers.iter().zip([1000, 4000, 2000, 1000, 1000, 2000]).filter(|((_, p), _)| !p.wire().closed)
    {
        peer.send(&message(length, 1)[10..]);
        bench.settle();
        assert_eq!(bench.service.messages_of(*conn), [message(length, 1)]);
    }
    assert_eq!(bench.io().buffered_total_bytes(), 0);
}

#[test]
fn whoever_lets_the_most_wait_goes_for_it_although_it_is_just_being_heard() {
    let limits = Limits { buffered_total_bytes_max: 40_000, queue_bytes_max: 60_000, ..small() };
    // A service that tells everybody what they have said themselves.
    let service = Script::with(|io, conn, data, _| {
        let length = message_bytes(data);
        if data.len() < 2 || data.len() < length {
            return Progress { consumed: 0, wanted: if data.len() < 2 { 2 } else { length } };
        }
        let _ = io.send(conn, &mut Outgoing::to_one(&data[..length]), Lane::Answer);
        Progress { consumed: length, wanted: 0 }
    });
    let mut bench = Bench::new(limits, service);
    let (modest, _) = open_with_room(&mut bench, 0);
    send(&mut bench, modest, &message(9000, 1)).expect("room");
    let (talker, peer) = open_with_room(&mut bench, 0);
    for _ in 0..40 {
        // In two pieces, so that the beginning of each has to be kept until its end has come.
        let said = message(2000, 2);
        peer.send(&said[..1000]);
        bench.settle();
        peer.send(&said[1000..]);
        bench.settle();
    }
    assert!(bench.service.end_of(modest).is_none(), "it holds less");
    let ended = bench.service.end_of(talker);
    assert!(matches!(ended, Some(Told::Close { reason: CloseReason::MemoryPressure, .. })));
}

#[test]
fn a_beginning_that_was_spared_while_it_was_heard_goes_when_memory_is_short_again() {
    let limits =
        Limits { buffered_total_bytes_max: 40_000, queue_bytes_max: 60_000, input_bytes_max: 16_000, ..small() };
    let stuck = Rc::new(RefCell::new(Vec::new()));
    // A service that tells somebody of each piece that comes, and goes on waiting for the rest.
    let service = Script::with({
        let stuck = Rc::clone(&stuck);
        move |io, _, data, told| {
            if let Some(conn) = stuck.borrow().last().copied() {
                let sent = io.send(conn, &mut Outgoing::to_one(&message(4000, 1)), Lane::Traffic);
                told.push((conn, Told::Message(format!("{sent:?}").into_bytes())));
            }
            Progress { consumed: 0, wanted: message_bytes(data) }
        }
    });
    let mut bench = Bench::new(limits, service);
    let (begun, peer) = bench.open();
    let said = message(16_000, 2);
    peer.send(&said[..10]);
    bench.settle();
    for length in [12_000, 8000] {
        let (conn, _) = open_with_room(&mut bench, 0);
        send(&mut bench, conn, &message(length, 3)).expect("room");
        bench.settle();
    }
    let (last, _) = open_with_room(&mut bench, 0);
    stuck.borrow_mut().push(last);
    peer.send(&said[10..20]);
    bench.settle();
    let full = Told::Message(format!("{:?}", Err::<(), _>(SendError::Full)).into_bytes());
    assert_eq!(bench.service.of(last), [full], "nobody else holds so much that it has to go");
    send(&mut bench, last, &message(4000, 1)).expect("room");
    bench.settle();
    assert_eq!(bench.service.end_of(begun), Some(closed(CloseReason::MemoryPressure)));
}

#[test]
fn a_connection_that_fails_while_it_is_written_to_costs_no_other_one_its_queue() {
    let limits = Limits { buffered_total_bytes_max: 10_000, ..small() };
    let mut bench = Bench::new(limits, Script::messages());
    let (waiting, _) = open_with_room(&mut bench, 0);
    send(&mut bench, waiting, &message(9000, 1)).expect("room");
    let (failing, peer) = open_with_room(&mut bench, usize::MAX);
    peer.wire().write_max = usize::MAX;
    peer.reset();
    assert_eq!(send(&mut bench, failing, &message(3000, 2)), Err(SendError::Gone));
    bench.settle();
    assert_eq!(bench.service.end_of(failing), Some(closed(CloseReason::Reset)));
    assert_eq!(bench.service.end_of(waiting), None);
}

#[test]
fn sending_nothing_leaves_nothing() {
    let mut bench = Bench::new(small(), Script::messages());
    let (conn, peer) = bench.open();
    send(&mut bench, conn, b"").expect("room for nothing");
    bench.settle();
    assert!(peer.output().is_empty());
    assert_eq!(peer.wire().write_calls, 0);
}

#[test]
fn what_was_not_sent_is_handed_back_in_whole_messages() {
    let messages = [message(10, 1), message(300, 2), message(5000, 3), message(2, 4), message(4000, 5)];
    let all = messages.concat();
    // In a queue from the beginning, and after a part was written through.
    for one_by_one in [true, false] {
        for room in [0, 1, 9, 10, 11, 310, 311, 5309, 5310, 5311, 5312, 5313, all.len() - 1] {
            let mut bench = Bench::new(small(), Script::messages());
            let (conn, peer) = open_with_room(&mut bench, room);
            if one_by_one {
                for message in &messages {
                    send(&mut bench, conn, message).expect("room");
                }
            } else {
                send(&mut bench, conn, &all).expect("room");
            }
            bench.settle();
            assert_eq!(peer.output(), all[..room]);
            bench.io().abort(conn, CloseReason::Aborted);
            bench.settle();
            let (mut cut, mut boundary) = (&[][..], 0);
            for message in &messages {
                if boundary < room {
                    boundary += message.len();
                    cut = if boundary > room { &message[..message.len().min(32)] } else { &[] };
                }
            }
            let end = Told::Close { reason: CloseReason::Aborted, cut: cut.to_vec(), whole: all[boundary..].to_vec() };
            assert!(bench.service.end_of(conn) == Some(end), "{room} bytes were taken, one by one: {one_by_one}");
        }
    }
}

#[test]
fn who_takes_nothing_or_a_byte_a_second_is_closed_when_the_oldest_byte_is_too_old() {
    let limits = Limits { write_deadline: Duration::from_secs(10), ..small() };
    // Blocked in a queue; blocked while written through; and blocked before its first byte.
    let cases = [(&[100_usize, 100][..], 5), (&[4000], 5), (&[4000], 0), (&[100], 0)];
    for (trickles, (lengths, room)) in cases.iter().flat_map(|case| [(false, case), (true, case)]) {
        let mut bench = Bench::new(limits, Script::messages());
        let (conn, peer) = open_with_room(&mut bench, *room);
        for length in *lengths {
            send(&mut bench, conn, &message(*length, 1)).expect("room");
        }
        for second in 0..9 {
            bench.pass(Duration::from_secs(1));
            assert_eq!(bench.service.end_of(conn), None, "after {second} seconds");
            peer.take(usize::from(trickles));
        }
        bench.pass(Duration::from_millis(1200));
        let Some(Told::Close { reason, .. }) = bench.service.end_of(conn) else {
            panic!("{lengths:?} with room for {room} are watched by nobody, trickles: {trickles}");
        };
        assert_eq!(reason, CloseReason::WriteOverdue);
        assert!(peer.wire().closed);
    }
}

#[test]
fn a_long_message_that_finds_the_network_full_is_watched_with_notification_as_well() {
    let limits = Limits { write_deadline: Duration::from_secs(10), ..small() };
    for room in [2048, 2050] {
        let mut bench = Bench::new(limits, Script::messages());
        let (conn, _) = open_with_room(&mut bench, room);
        bench.io().set_notify(conn, true);
        // The first one is taken whole, and marks the connection as one to be notified of.
        send(&mut bench, conn, &message(2048, 1)).expect("room");
        send(&mut bench, conn, &message(2048, 2)).expect("room");
        bench.pass(Duration::from_secs(11));
        let end = bench.service.end_of(conn);
        assert!(matches!(end, Some(Told::Close { reason: CloseReason::WriteOverdue, .. })), "{end:?}, room for {room}");
    }
}

#[test]
fn who_is_slow_but_keeps_the_oldest_byte_young_lives() {
    let limits = Limits { write_deadline: Duration::from_secs(10), ..small() };
    let mut bench = Bench::new(limits, Script::messages());
    let (conn, peer) = open_with_room(&mut bench, 0);
    // 1,000 bytes a second come and go, 5,000 always wait.
    for filling in 0..5 {
        send(&mut bench, conn, &message(1000, filling)).expect("room");
        bench.pass(Duration::from_secs(1));
    }
    for _ in 0..100 {
        send(&mut bench, conn, &message(1000, 9)).expect("room");
        peer.take(1000);
        bench.pass(Duration::from_secs(1));
        assert_eq!((bench.io().queued_bytes(conn), bench.service.end_of(conn)), (5000, None));
    }
    bench.pass(Duration::from_secs(4));
    assert_eq!(bench.service.end_of(conn), None);
    bench.pass(Duration::from_secs(2));
    assert!(bench.service.end_of(conn).is_some(), "and when it stops, it is closed");
}

#[test]
fn a_queue_that_is_empty_again_in_time_has_no_deadline_left() {
    let limits = Limits { write_deadline: Duration::from_secs(10), ..small() };
    let mut bench = Bench::new(limits, Script::messages());
    let (conn, peer) = open_with_room(&mut bench, 50);
    for _ in 0..20 {
        send(&mut bench, conn, &message(100, 1)).expect("room");
        bench.pass(Duration::from_secs(9));
        peer.take(100);
        bench.pass(Duration::from_secs(9));
        assert_eq!((bench.io().queued_bytes(conn) <= 50, bench.service.end_of(conn)), (true, None));
        peer.take(1000);
        bench.settle();
        peer.take(50);
    }
}

#[test]
fn a_long_queue_does_not_hold_up_the_others_writes() {
    let limits = Limits { queue_bytes_max: 1 << 20, write_turn_bytes_max: 8192, ..small() };
    let mut bench = Bench::new(limits, Script::messages());
    let (long, long_peer) = open_with_room(&mut bench, 0);
    for _ in 0..100 {
        send(&mut bench, long, &message(10_000, 1)).expect("room");
    }
    bench.settle();
    let (short, short_peer) = bench.open();
    long_peer.take(usize::MAX);
    long_peer.wire().write_max = 1000;
    for turn in 1..50 {
        send(&mut bench, short, &message(10, 1)).expect("room");
        bench.turn();
        assert_eq!(short_peer.output().len(), turn * 10);
        assert_eq!(long_peer.output().len(), turn * 9000, "the budget, and the write that crosses it");
    }
    bench.settle();
    assert_eq!(long_peer.output().len(), 1_000_000);
}

#[test]
fn a_stuck_reader_costs_others_nothing() {
    let mut bench = Bench::new(small(), Script::messages());
    let (stuck, stuck_peer) = open_with_room(&mut bench, 0);
    let (quick, quick_peer) = bench.open();
    while send(&mut bench, stuck, &message(1000, 1)).is_ok() {}
    bench.settle();
    let calls = stuck_peer.wire().write_calls;
    for round in 1..=100 {
        send(&mut bench, quick, &message(500, 2)).expect("room");
        bench.settle();
        assert_eq!(quick_peer.output().len(), round * 500);
    }
    assert_eq!(stuck_peer.wire().write_calls, calls, "nothing is tried before the network takes more");
}
