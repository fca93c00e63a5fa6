//! What a bench run shows: as text, as JSON, as a page; and the same for a comparison of servers.
//!
//! With `SWITCHBOARD_PAGES` set to a folder, the pages are written there as well, to be looked at.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    clippy::assigning_clones,
    clippy::type_complexity,
    reason = "figures and words made up for tests"
)]

mod comparison;
mod latency;
mod made_up;
mod report;

/// Text from outside that wants to be markup.
const EVIL: &str = "</script><b>bold</b>\"'&";

/// The page with slashes as they are: they need not be escaped, but are.
fn unslashed(page: Vec<u8>) -> String {
    String::from_utf8(page).expect("text").replace("&#x2f;", "/")
}

fn keep(name: &str, text: &str) {
    if let Some(folder) = std::env::var_os("SWITCHBOARD_PAGES") {
        std::fs::write(std::path::Path::new(&folder).join(name), text).expect("the folder is there");
    }
}

/// What every self-contained page holds to.
fn assert_page(page: &str) {
    for fetched in ["http://", "https://", "src=", "<script", "<link", "@import", "url("] {
        let rest = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!rest.contains(fetched), "{fetched}");
    }
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("</html>"));
    for raw in [EVIL, "<b>bold", "</script>"] {
        assert!(!page.contains(raw), "{raw} is not escaped");
    }
    for leftover in ["{{", "{%", "undefined", "NaN"] {
        assert!(!page.contains(leftover), "{leftover}");
    }
}
