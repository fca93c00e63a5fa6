//! The same work over TLS, on switchboard and on whatever else is installed: each row has its figures.

use std::time::Duration;

use switchboard::bench::comparison::{Comparison, Role};
use switchboard::bench::{Keys, Stop};

use crate::rounds::{Plan, run_all};
use crate::rows;
use crate::servers::Kind;

#[test]
fn a_smoke_run_has_a_figure_for_each_server_that_is_there_and_one_for_the_cipher() {
    let mut runs = rows::runs(Duration::from_millis(100));
    runs.retain(|run| run.name.starts_with("tls-"));
    rows::quick(&mut runs);
    for run in &mut runs {
        run.work.connections = run.work.connections.min(20);
    }
    let plan = Plan {
        runs,
        servers: Kind::ALL.to_vec(),
        rounds: 1,
        keys: Some(Keys::make().expect("a folder")),
        judged: false,
    };
    let mut comparison = Comparison::default();
    let failures = run_all(&plan, &Stop::default(), &mut comparison);
    assert_eq!(failures, [""; 0]);
    let subject = comparison.position(Role::Subject).expect("it takes part");
    let floor = comparison.position(Role::Floor).expect("it takes part");
    for row in &comparison.rows {
        let is_of_tls = row.measure == "server CPU of TLS a delivery";
        // Memory needs thousands of clients to be told from noise.
        if row.measure != "resident memory a connection" {
            assert!(row.cells[subject].value.is_some(), "{}: {:?}", row.name, row.cells);
        }
        assert_eq!(row.cells[floor].value.is_some_and(|least| least > 0.0), is_of_tls, "{}", row.name);
        assert_eq!(row.cells[subject].ratio_to_floor.is_some(), is_of_tls, "{}", row.name);
        for (server, cell) in comparison.servers.iter().zip(&row.cells) {
            assert!(matches!(cell.note.as_str(), "" | "skipped: not installed"), "{}: {}", server.name, cell.note);
        }
    }
}
