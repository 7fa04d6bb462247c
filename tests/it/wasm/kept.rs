//! Plugins that pause responses, before and behind a cache.

use serde_json::json;

use super::calls::judge;
use super::guests::{Modules, plugin};
use super::held::{get, origin, put_judge, routes, start};
use crate::support::upstream::Upstream;
use crate::support::wait_until;

#[test]
fn an_answer_out_of_a_cache_waits_for_those_before_that_and_is_kept_with_the_edits_of_those_behind() {
    let (modules, origin, asked) = (Modules::new(), origin(), Upstream::answering(judge));
    put_judge(&modules, "judge");
    let cache = || json!({ "use": "cache" });
    let judge = || plugin("judge", "closed");
    let prefixes = [("before", vec![judge(), cache()]), ("behind", vec![cache(), judge()])];
    let server = start(&modules, routes(&modules, &prefixes), &origin, &asked).serve();
    let mut client = server.client();
    let mut verdict = |prefix: &str, user: &str| {
        let response = get(&mut client, "GET", &format!("/{prefix}/up/fresh"), user);
        (response.status, response.field("x-verdict").map(str::to_owned))
    };
    let may = |user: &str| (200, Some(format!("{user} may")));
    assert_eq!((verdict("before", "ada0"), verdict("before", "bob0")), (may("ada0"), may("bob0")));
    assert_eq!(verdict("before", "eve0"), (403, None));
    assert_eq!((verdict("behind", "ada0"), verdict("behind", "bob0")), (may("ada0"), may("ada0")));
    assert_eq!((origin.requests(), asked.requests()), (2, 4));
}

#[test]
fn an_answer_that_is_fetched_anew_without_a_client_waits_too() {
    let (modules, origin, asked) = (Modules::new(), origin(), Upstream::answering(judge));
    put_judge(&modules, "judge");
    let prefixes = [("held", vec![json!({ "use": "cache" }), plugin("judge", "closed")])];
    let server = start(&modules, routes(&modules, &prefixes), &origin, &asked).serve();
    let mut client = server.client();
    let mut verdict = |user: &str| {
        let response = get(&mut client, "GET", "/held/up/stale", user);
        assert_eq!((response.status, response.text()), (200, "stale"));
        response.field("x-verdict").map(str::to_owned)
    };
    let may = |user: &str| Some(format!("{user} may"));
    assert_eq!(verdict("ada0"), may("ada0"));
    assert_eq!(verdict("bob0"), may("ada0"), "the one that is kept, while another is fetched");
    wait_until("that is kept", || verdict("bob0") == may("bob0"));
}
