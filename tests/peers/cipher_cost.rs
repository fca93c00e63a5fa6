//! The cost of the cipher alone, which what TLS adds is held against.

use switchboard::bench::report::Records;

use crate::cipher::{Line, TAG_BYTES, measure, per_delivery};

#[test]
fn a_record_that_was_sealed_opens_to_what_it_was_and_larger_ones_cost_more() {
    let mut line = Line::new().expect("a key");
    for round in 0..3 {
        let mut record = vec![round; 100 + TAG_BYTES];
        line.seal(&mut record).expect("sealed");
        assert_ne!(record[..100], [round; 100]);
        line.open(&mut record).expect("it is whole");
        assert_eq!(record[..100], [round; 100]);
    }
    let mut lines = vec![line];
    let (small, large) = (measure(&mut lines, 100).expect("a figure"), measure(&mut lines, 16_000).expect("a figure"));
    assert!(large.0 > small.0 && large.1 > small.1, "{small:?} {large:?}");
}

#[test]
fn the_cost_of_a_delivery_is_that_of_its_share_of_a_record() {
    let records = |count, bytes| Records {
        to_server: count,
        to_server_bytes: bytes,
        from_server: count,
        from_server_bytes: bytes,
    };
    let alone = per_delivery(&records(1000, 172_000), 1000, 4).expect("a figure");
    let together = per_delivery(&records(10, 172_000), 1000, 4).expect("a figure");
    assert!(together > 0.0 && together < alone, "{together} {alone}");
    assert_eq!(per_delivery(&records(0, 0), 1000, 4), None);
}
