//! `psql` and `pgbench`.

use crate::proxy_daemon::{Database, Place, said};

#[test]
fn psql_and_pgbench_wait_for_a_sleeping_database() {
    let (place, database) = (Place::new(), Database::new());
    place.rule("orders", &database.server(), database.port, "postgres");
    let _daemon = place.start();
    let select = ["-U", "shop", "-Atc", "select 6*7", "postgres"];
    let shown = place.ask(&[&["connect", "orders", "--"][..], &select].concat());
    let words: Vec<&str> = shown["command"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|word| word.as_str())
        .collect();
    let bench = |arguments: &[&str]| {
        place.tell("orders", "sleep");
        place.becomes("orders", "asleep");
        said(database.client("pgbench", &place.address, &place.port("orders"), arguments))
    };
    place.becomes("orders", "asleep");
    let mut psql = std::process::Command::new(words[0]);
    psql.args(&words[1..]);
    assert_eq!(said(psql), "42\n");
    bench(&["-q", "-i", "-s", "1", "postgres"]);
    // Four at once, none of whom has ever met the machine awake.
    let told = bench(&["-n", "-c", "4", "-j", "2", "-t", "50", "postgres"]);
    assert!(
        told.contains("number of transactions actually processed: 200/200"),
        "{told}"
    );
    assert!(told.contains("number of failed transactions: 0 "), "{told}");
}
