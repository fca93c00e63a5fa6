//! Every fate that a copy can meet, and every fault that the account must notice.

use super::*;

const ADA: Visit = 1;
const BOB: Visit = 2;
const CYN: Visit = 3;
const ROOM: Scope = 7;

/// Three who are here; the first sends.
fn three() -> Ledger {
    let mut ledger = Ledger::default();
    for visit in [ADA, BOB, CYN] {
        ledger.begins(visit);
        ledger.is_in(EVERYBODY, visit);
    }
    ledger
}

fn account(ledger: Ledger) -> Account {
    let (account, unanswered) = ledger.close(true);
    assert_eq!(unanswered, 0);
    let known = account.delivered + account.refused + account.counted + account.cut_off + account.lost;
    assert_eq!(account.sent, known, "{account:?}");
    account
}

fn is_sound(account: &Account) -> bool {
    account.lost + account.misordered + account.damaged + account.contradicted == 0
}

fn cast(ledger: &mut Ledger, number: u32, told: (u64, u64)) {
    ledger.casts(ADA, number, EVERYBODY, 128);
    ledger.is_queued(ADA, number, told.0, told.1);
}

#[test]
fn what_is_delivered_refused_or_counted_in_its_place_is_sound() {
    let mut ledger = three();
    ledger.sends(ADA, 1, BOB, 64, false);
    ledger.sends(ADA, 2, BOB, 64, true);
    ledger.sends(ADA, 3, BOB, 64, false);
    assert!(ledger.arrives(BOB, ADA, 1, 64, Aim::One));
    assert!(ledger.arrives(BOB, ADA, 3, 64, Aim::One));
    assert!(ledger.open() > 0, "the second is neither here nor refused");
    ledger.is_refused(ADA, 2, Some(BOB), "QUEUE_FULL");
    ledger.lists(ADA, 4, &[BOB, CYN], 128);
    ledger.is_refused(ADA, 4, Some(CYN), "QUEUE_FULL");
    ledger.is_queued(ADA, 4, 1, 1);
    assert!(ledger.arrives(BOB, ADA, 4, 128, Aim::List));
    cast(&mut ledger, 5, (1, 1));
    cast(&mut ledger, 6, (2, 0));
    assert!(ledger.arrives(BOB, ADA, 5, 128, Aim::Many(EVERYBODY)));
    assert!(ledger.arrives(BOB, ADA, 6, 128, Aim::Many(EVERYBODY)));
    ledger.misses(CYN, 1);
    assert!(ledger.arrives(CYN, ADA, 6, 128, Aim::Many(EVERYBODY)));
    ledger.probes(ADA, 7);
    ledger.is_refused(ADA, 7, None, "NO_SUCH_ROOM");
    assert_eq!(ledger.open(), 0);
    let account = account(ledger);
    assert!(is_sound(&account), "{account:?}");
    assert_eq!((account.sent, account.delivered, account.refused, account.counted), (10, 6, 3, 1));
}

#[test]
fn a_receipt_comes_once_and_not_beside_a_refusal() {
    let mut ledger = three();
    ledger.sends(ADA, 1, BOB, 64, true);
    ledger.is_written(ADA, 1);
    assert!(ledger.arrives(BOB, ADA, 1, 64, Aim::One));
    ledger.is_written(ADA, 1);
    ledger.sends(ADA, 2, BOB, 64, true);
    ledger.is_written(ADA, 2);
    ledger.is_refused(ADA, 2, Some(BOB), "RECIPIENT_LOST");
    assert!(ledger.arrives(BOB, ADA, 2, 64, Aim::One));
    assert_eq!(account(ledger).contradicted, 2);

    let mut ledger = three();
    ledger.sends(ADA, 1, BOB, 64, true);
    assert!(ledger.arrives(BOB, ADA, 1, 64, Aim::One));
    assert_eq!(ledger.open(), 2);
    let (account, unanswered) = ledger.close(true);
    assert_eq!((account.lost, unanswered), (0, 1), "it has arrived, and its sender was not told");
}

#[test]
fn what_is_missing_twice_late_bent_or_astray_is_a_fault() {
    let sent = || {
        let mut ledger = three();
        for number in 1..=3 {
            ledger.sends(ADA, number, BOB, 64, false);
        }
        ledger
    };
    let mut ledger = sent();
    for number in [1, 3] {
        assert!(ledger.arrives(BOB, ADA, number, 64, Aim::One));
    }
    assert_eq!(account(ledger).lost, 1);

    let mut ledger = sent();
    for (number, is_good) in [(1, true), (1, false), (3, true), (2, false)] {
        assert_eq!(ledger.arrives(BOB, ADA, number, 64, Aim::One), is_good);
    }
    assert_eq!(account(ledger).misordered, 2);

    let mut ledger = sent();
    assert!(!ledger.arrives(CYN, ADA, 1, 64, Aim::One), "for somebody else");
    assert!(!ledger.arrives(BOB, ADA, 1, 65, Aim::One), "of another length");
    assert!(!ledger.arrives(BOB, ADA, 1, 64, Aim::List), "as another kind");
    assert!(!ledger.arrives(BOB, CYN, 1, 64, Aim::One), "from somebody else");
    assert!(!ledger.arrives(BOB, ADA, 9, 64, Aim::One), "never sent");
    let account = account(ledger);
    assert_eq!((account.damaged, account.lost), (5, 3));
}

#[test]
fn a_gap_stands_where_the_frames_would_have_been() {
    // Behind the next one, so the first is lost, and what was counted was not missing.
    let mut ledger = three();
    cast(&mut ledger, 1, (1, 1));
    cast(&mut ledger, 2, (2, 0));
    for number in [1, 2] {
        assert!(ledger.arrives(BOB, ADA, number, 128, Aim::Many(EVERYBODY)));
    }
    assert!(ledger.arrives(CYN, ADA, 2, 128, Aim::Many(EVERYBODY)));
    ledger.misses(CYN, 1);
    let late = account(ledger);
    assert_eq!((late.lost, late.counted), (1, 0));
    assert!(late.contradicted > 0);

    // In front of a frame that was sent before the missing one.
    let mut ledger = three();
    for (number, told) in [(1, (2, 0)), (2, (1, 1)), (3, (2, 0))] {
        cast(&mut ledger, number, told);
        assert!(ledger.arrives(BOB, ADA, number, 128, Aim::Many(EVERYBODY)));
    }
    ledger.misses(CYN, 1);
    assert!(ledger.arrives(CYN, ADA, 1, 128, Aim::Many(EVERYBODY)));
    assert!(ledger.arrives(CYN, ADA, 3, 128, Aim::Many(EVERYBODY)));
    assert_eq!(account(ledger).lost, 1);
}

#[test]
fn a_receipt_must_tell_of_all_members_and_of_no_others() {
    for (told, is_right) in [((2, 0), true), ((1, 0), false), ((3, 0), false), ((1, 1), false)] {
        let mut ledger = three();
        cast(&mut ledger, 1, told);
        for to in [BOB, CYN] {
            assert!(ledger.arrives(to, ADA, 1, 128, Aim::Many(EVERYBODY)));
        }
        let (account, _) = ledger.close(true);
        assert_eq!(is_sound(&account), is_right, "{told:?}: {account:?}");
    }
    // Strangers get a copy too, and nobody here knows how many they are, nor at once that they have come.
    let mut ledger = three();
    cast(&mut ledger, 1, (30, 5));
    ledger.has_strangers = true;
    for to in [BOB, CYN] {
        assert!(ledger.arrives(to, ADA, 1, 128, Aim::Many(EVERYBODY)));
    }
    assert!(is_sound(&account(ledger)));
}

#[test]
fn who_comes_or_goes_may_get_what_is_on_its_way_and_the_receipt_says_whether() {
    for (copies, arrives) in [(1, false), (2, true)] {
        let mut ledger = three();
        ledger.is_in(ROOM, ADA);
        ledger.is_in(ROOM, BOB);
        // It comes while one is on its way.
        ledger.casts(ADA, 1, ROOM, 128);
        ledger.comes(ROOM, CYN);
        if arrives {
            assert!(ledger.arrives(CYN, ADA, 1, 128, Aim::Many(ROOM)));
        }
        ledger.is_queued(ADA, 1, copies, 0);
        ledger.is_in(ROOM, CYN);
        // It goes while one is on its way.
        ledger.casts(ADA, 2, ROOM, 128);
        ledger.goes(ROOM, CYN);
        ledger.is_queued(ADA, 2, copies, 0);
        if arrives {
            assert!(ledger.arrives(CYN, ADA, 2, 128, Aim::Many(ROOM)));
        }
        ledger.is_out(ROOM, CYN);
        for number in [1, 2] {
            assert!(ledger.arrives(BOB, ADA, number, 128, Aim::Many(ROOM)));
        }
        // A frame to it alone stands behind all that it was to get.
        ledger.sends(ADA, 3, CYN, 16, false);
        assert!(ledger.arrives(CYN, ADA, 3, 16, Aim::One));
        assert_eq!(ledger.open(), 0);
        let account = account(ledger);
        assert!(is_sound(&account), "{copies}: {account:?}");
        assert_eq!(account.sent, 2 * copies + 1);
    }
    // Told of as a recipient, and got nothing.
    let mut ledger = three();
    ledger.is_in(ROOM, ADA);
    ledger.comes(ROOM, CYN);
    ledger.casts(ADA, 1, ROOM, 128);
    ledger.is_queued(ADA, 1, 1, 0);
    ledger.sends(ADA, 2, CYN, 16, false);
    assert!(ledger.arrives(CYN, ADA, 2, 16, Aim::One));
    assert_eq!(account(ledger).lost, 1);
}

#[test]
fn who_leaves_in_order_has_got_all_that_was_meant_for_it() {
    // What it is not sent any more is refused; a frame for everybody it may get or not.
    let mut ledger = three();
    ledger.sends(ADA, 1, CYN, 64, true);
    ledger.goes(EVERYBODY, CYN);
    ledger.casts(ADA, 2, EVERYBODY, 64);
    ledger.ends(CYN, End::Orderly);
    ledger.is_refused(ADA, 1, Some(CYN), "NO_SUCH_CLIENT");
    ledger.is_queued(ADA, 2, 1, 0);
    assert!(ledger.arrives(BOB, ADA, 2, 64, Aim::Many(EVERYBODY)));
    assert_eq!(ledger.open(), 0);
    assert!(is_sound(&account(ledger)));

    // Written, it says, but it never came.
    let mut ledger = three();
    ledger.sends(ADA, 1, CYN, 64, true);
    ledger.goes(EVERYBODY, CYN);
    ledger.ends(CYN, End::Orderly);
    ledger.is_written(ADA, 1);
    cast(&mut ledger, 2, (1, 0));
    assert!(ledger.arrives(BOB, ADA, 2, 128, Aim::Many(EVERYBODY)));
    assert_eq!(account(ledger).lost, 1);

    // Everything for everybody that was taken in before it asked to go.
    let mut ledger = three();
    cast(&mut ledger, 1, (2, 0));
    ledger.goes(EVERYBODY, CYN);
    ledger.ends(CYN, End::Orderly);
    assert!(ledger.arrives(BOB, ADA, 1, 128, Aim::Many(EVERYBODY)));
    assert_eq!(account(ledger).lost, 1);
}

#[test]
fn what_somebody_has_sent_before_it_left_in_order_arrives_before_its_departure() {
    for (arrived, lost) in [(2, 0), (1, 1), (0, 2)] {
        let mut ledger = three();
        ledger.sends(ADA, 1, BOB, 64, true);
        ledger.sends(ADA, 2, BOB, 64, true);
        ledger.ends(ADA, End::Orderly);
        for number in 1..=arrived {
            assert!(ledger.arrives(BOB, ADA, number, 64, Aim::One));
        }
        ledger.departs(BOB, ADA);
        assert!(!ledger.arrives(BOB, ADA, 2, 64, Aim::One), "nothing follows it");
        assert_eq!(ledger.open(), 0);
        let account = account(ledger);
        assert_eq!((account.delivered, account.lost), (arrived.into(), lost));
    }
    // Its last words come later than the news: one of its frames was refused.
    let mut ledger = three();
    ledger.sends(ADA, 1, BOB, 64, true);
    ledger.departs(BOB, ADA);
    ledger.is_refused(ADA, 1, Some(BOB), "QUEUE_FULL");
    ledger.ends(ADA, End::Orderly);
    assert_eq!(ledger.open(), 0);
    assert!(is_sound(&account(ledger)));
}

#[test]
fn what_was_on_its_way_from_or_to_who_is_cut_off_is_no_fault_and_all_else_is() {
    // From it: a beginning of what it has sent.
    let mut ledger = three();
    for number in 1..=3 {
        ledger.sends(ADA, number, BOB, 64, true);
    }
    ledger.ends(ADA, End::Cut);
    assert!(ledger.arrives(BOB, ADA, 1, 64, Aim::One));
    ledger.departs(BOB, ADA);
    assert_eq!(ledger.open(), 0);
    let from = account(ledger);
    assert!(is_sound(&from));
    assert_eq!((from.delivered, from.cut_off), (1, 2));

    // To it: written, or refused; and for everybody, whatever was queued.
    let mut ledger = three();
    ledger.sends(ADA, 1, CYN, 64, true);
    ledger.sends(ADA, 2, CYN, 64, true);
    ledger.casts(ADA, 3, EVERYBODY, 64);
    ledger.ends(CYN, End::Cut);
    ledger.is_written(ADA, 1);
    ledger.is_refused(ADA, 2, Some(CYN), "RECIPIENT_LOST");
    ledger.is_queued(ADA, 3, 2, 0);
    assert!(ledger.arrives(BOB, ADA, 3, 64, Aim::Many(EVERYBODY)));
    assert_eq!(ledger.open(), 0);
    let to = account(ledger);
    assert!(is_sound(&to));
    assert_eq!((to.delivered, to.refused, to.cut_off), (1, 1, 2));

    // For everybody, but its end came first.
    let mut ledger = three();
    ledger.casts(ADA, 1, EVERYBODY, 64);
    ledger.ends(CYN, End::Cut);
    ledger.is_queued(ADA, 1, 1, 0);
    assert!(ledger.arrives(BOB, ADA, 1, 64, Aim::Many(EVERYBODY)));
    assert!(is_sound(&account(ledger)));

    // For everybody, and the relay has not noticed its end: so it may be until somebody is told that it has departed.
    for (told, has_departed, is_right) in [(2, false, true), (1, false, true), (2, true, false), (1, true, true)] {
        let mut ledger = three();
        ledger.ends(CYN, End::Cut);
        if has_departed {
            ledger.departs(BOB, CYN);
        }
        cast(&mut ledger, 1, (told, 0));
        assert!(ledger.arrives(BOB, ADA, 1, 128, Aim::Many(EVERYBODY)));
        let (account, _) = ledger.close(true);
        assert_eq!(is_sound(&account), is_right, "{told} {has_departed}: {account:?}");
    }

    // It explains one copy, not two.
    let mut ledger = three();
    ledger.begins(4);
    ledger.is_in(EVERYBODY, 4);
    ledger.casts(ADA, 1, EVERYBODY, 64);
    ledger.ends(CYN, End::Cut);
    ledger.is_queued(ADA, 1, 3, 0);
    assert!(ledger.arrives(4, ADA, 1, 64, Aim::Many(EVERYBODY)));
    let (account, _) = ledger.close(true);
    assert_eq!(account.lost + account.cut_off, 2);
    assert!(account.lost > 0);
}

#[test]
fn who_has_gone_is_forgotten_once_nobody_refers_to_it() {
    let mut ledger = three();
    for visit in 10..1000 {
        ledger.begins(visit);
        ledger.is_in(EVERYBODY, visit);
        ledger.sends(visit, 1, BOB, 64, true);
        ledger.sends(BOB, visit, visit, 64, true);
        ledger.ends(visit, if visit % 2 == 0 { End::Orderly } else { End::Cut });
        let known = ledger.forget();
        assert!(known.contains(&visit), "something is to come from it");
        ledger.departs(BOB, visit);
        ledger.is_written(BOB, visit);
        assert!(ledger.forget().len() <= 3 && ledger.people.len() <= 3);
    }
    assert_eq!(ledger.open(), 0);
}

#[test]
fn what_is_open_when_somebody_stops_the_run_is_not_lost() {
    let mut ledger = three();
    ledger.sends(ADA, 1, BOB, 64, true);
    cast(&mut ledger, 2, (2, 0));
    ledger.casts(ADA, 3, EVERYBODY, 64);
    assert!(ledger.arrives(CYN, ADA, 2, 128, Aim::Many(EVERYBODY)));
    let (account, unanswered) = ledger.close(false);
    assert_eq!((account.lost, account.open, unanswered), (0, 4, 0));
    assert_eq!(account.sent, account.delivered + account.open);
}
