//! The users file: what it says, what is wrong with it, how it is changed; and those who are not in it.

use std::collections::HashSet;
use std::num::NonZeroU32;

use super::edit::{Change, EditError, changed, rights_of};
use super::line::{word_places, words};
use super::*;
use crate::auth::scram::{Binding, ClientExchange, NONCE_BYTES, ServerExchange};
use crate::auth::token_text;

const SECRET: &str = "%secret AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";

/// Of the documentation of PostgreSQL's own tests: the password is `pencil`, the salt that of RFC 7677.
const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

fn verifier(password: &str, iterations: u32, salt: &[u8]) -> Verifier {
    Verifier::from_password(password, NonZeroU32::new(iterations).expect("above 0"), salt)
}

fn users(lines: &str) -> Users {
    Users::parse(format!("{SECRET}{lines}")).expect(lines)
}

fn digest(number: u8) -> TokenDigest {
    TokenDigest::of(token_text(&[number; 32]).as_bytes())
}

#[test]
fn a_verifier_of_postgresql_is_read_made_and_written_letter_by_letter() {
    let known: Verifier = PENCIL.parse().expect("a verifier");
    assert_eq!(known.to_string(), PENCIL);
    assert_eq!(known, verifier("pencil", 4096, known.salt()));
    assert_ne!(known, verifier("pencils", 4096, known.salt()));
}

#[test]
fn a_line_says_who_somebody_is_and_what_they_may_do() {
    let users = users(&format!(
        "# people\n\nada {PENCIL} # the first\n  'Grace Hopper'\tcertificate admin=yes\r\n\
         bot token:{} token:{} names=bot/* join=tea,news/* create=- send=tea to=ada all=no watch=no\n",
        digest(1),
        digest(2)
    ));
    assert_eq!(users.iter().map(User::name).collect::<Vec<_>>(), ["ada", "Grace Hopper", "bot"]);
    let [ada, grace, bot] = ["ada", "Grace Hopper", "bot"].map(|name| users.user(users.find(name).expect(name)));
    assert!(ada.has_password() && !ada.may_use_certificate() && *ada.access() == Access::usual("ada"));
    assert!(!grace.has_password() && grace.may_use_certificate() && grace.access().may_administer());
    let access = bot.access();
    assert!(access.may_be_called("bot/1") && !access.may_be_called("bot"));
    assert!(access.may_join("news/x") && !access.may_join("x") && !access.may_create("tea"));
    assert!(access.may_send("tea") && !access.may_send("news/x"));
    assert!(access.may_address("ada") && !access.may_address("bot") && !access.addresses_everyone());
    assert!(!access.may_send_to_all() && !access.may_watch() && !access.may_administer());
    for number in [1, 2] {
        assert_eq!(users.by_token(token_text(&[number; 32]).as_bytes()), users.find("bot"));
    }
    assert_eq!(users.by_token(token_text(&[3; 32]).as_bytes()), None);
    assert!(users.has_passwords() && users.has_tokens() && users.has_certificates());
    assert_eq!((users.find("Ada"), users.find("")), (None, None));
}

#[test]
fn a_key_of_other_users_opens_nothing() {
    let users = users("ada certificate\n");
    let access = users.user(UserKey::from_bits(7)).access();
    assert!(!access.may_be_called("") && !access.may_watch() && !access.addresses_everyone());
    let key = users.find("ada").expect("there");
    assert_eq!(UserKey::from_bits(key.bits()), key);
}

#[test]
fn an_empty_file_has_nobody() {
    for text in ["", "\n\n", "# nobody\n", "\u{feff}# nobody", SECRET] {
        assert!(Users::parse(text).expect(text).is_empty());
    }
}

#[test]
fn what_makes_no_sense_is_told_with_its_line_and_repeats_no_secret() {
    let good = format!("ada {PENCIL}\n");
    let zero = PENCIL.replace("4096", "0");
    let few = PENCIL.replace("4096", "4095");
    let many = PENCIL.replace("4096", "10000001");
    let cut = &PENCIL[..PENCIL.len() - 1];
    for (line, says) in [
        ("ada certificate", "\"ada\" is there twice"),
        ("eve", "\"eve\" has no way in"),
        ("eve watch=no", "no way in"),
        ("eve certificate certificate", "certificate is there twice"),
        ("eve certificate all=no all=yes", "all= is there twice"),
        ("eve certificate all=maybe", "all= is yes or no, not \"maybe\""),
        ("eve certificate join=", "join= has an empty pattern"),
        ("eve certificate join=a,,b", "join= has an empty pattern"),
        ("eve certificate join=-,tea", "join= has a - among others: it stands alone"),
        ("eve certificate to=*,-", "to= has a - among others: it stands alone"),
        (r"eve certificate names=a,\-", "names= has a - among others"),
        (r"eve certificate 'to=a\b'", "to= has a backslash"),
        ("eve certificate rooms=x", "\"rooms=\" is not known"),
        ("eve certificate nonsense", "a word is not known"),
        ("eve hunter2", "a word is not known"),
        ("eve aHVudGVyMg==", "a word is not known"),
        ("eve hunter2=x", "a word is not known"),
        ("eve:hunter2", "\"eve:\"... has no way in"),
        ("%secret=hunter2", "cannot begin with %, as \"%secret=\"... does"),
        ("eve password=hunter2", "\"password=\" is not known"),
        (&format!("eve {zero}"), "iterations that is no number above 0"),
        (&format!("eve {few}"), "4095 iterations; clients take 4096 to 2000000"),
        (&format!("eve {many}"), "10000001 iterations"),
        (&format!("eve {cut}"), "second key that is not base64"),
        ("eve SCRAM-SHA-256$4096", "not of the form"),
        ("eve SCRAM-SHA-256$4096:$AAAA:AAAA", "salt that is empty"),
        ("eve SCRAM-SHA-256$4096:AAAA$AAAA:AAAA", "first key that is not 32 bytes long"),
        ("eve SCRAM-SHA-1$4096", "not known"),
        (&format!("eve {PENCIL} {PENCIL}"), "a password is there twice"),
        ("eve token:AAAA", "a token's hash is not a SHA-256"),
        ("eve token:???", "a token's hash is not base64"),
        (&format!("eve token:{0} token:{0}", digest(9)), "a token is there twice"),
        (&format!("eve {}", &*token_text(&[7; 32])), "a token stands there itself"),
        (&format!("eve {}", format!("token:{} ", digest(1)).repeat(17)), "more than 16 tokens"),
        (&format!("{} watch=no", &*token_text(&[7; 32])), "\"swb_\"... has no way in"),
        (&format!("'eve {}'", &*token_text(&[7; 32])), "\"eve swb_\"... has no way in"),
        ("'eve certificate", "a quote is not closed"),
        ("eve certificate \\", "a backslash ends the line"),
        (&format!("{} certificate", "e".repeat(65)), "has 65 bytes; 64 are the most"),
        ("'' certificate", "is empty"),
        ("' eve' certificate", "space at an end"),
        ("'e\u{202e}ve' certificate", "garble a terminal"),
        ("\u{feff}eve certificate", "has a byte order mark (U+FEFF) in it"),
        ("\u{feff}\u{feff} certificate", "has a byte order mark (U+FEFF) in it"),
        ("%eve certificate", "cannot begin with %"),
        ("\u{fb01}ne certificate", "as \"fine\""),
        ("%secret AAECAwQFBgcICQoLDA0ODw==", "%secret is there twice"),
        (&format!("eve certificate # {}", "x".repeat(16 * 1024)), "16384 are the most"),
    ] {
        let error = Users::parse(format!("{SECRET}{good}\n{line}\n{good}")).expect_err(line);
        assert_eq!(error.line, 4, "{line}: {error}");
        assert!(error.what.contains(says), "{line}: {error}");
        assert!(
            !error.what.contains("hunter2")
                && !error.what.contains("aHVud")
                && !error.what.contains("swb_B")
                && !error.what.contains("WG5d"),
            "{error}"
        );
        assert!(!error.what.contains(['\n', '\u{202e}']), "{error}");
    }
}

#[test]
fn a_secret_that_is_missing_or_bad_is_told() {
    for (text, line, says) in [
        (format!("# x\nada {PENCIL}\nada2 certificate\n"), 2, "needs a line `%secret`"),
        ("%secret\n".into(), 1, "one word"),
        ("%secret AAAA BBBB\n".into(), 1, "one word"),
        ("%secret ???\n".into(), 1, "not base64"),
        ("%secret AAAA\n".into(), 1, "3 bytes; 16 are the fewest"),
    ] {
        let error = Users::parse(&*text).expect_err(&text);
        assert!(error.line == line && error.what.contains(says), "{error}");
    }
    assert!(Users::parse("ada certificate\n").is_ok(), "who has no password needs no secret");
    let error = Loader::from_bytes(b"# x\nada certificate\n\xff\n".to_vec()).expect_err("no UTF-8");
    assert_eq!((error.line, error.what.as_str()), (3, "it is not UTF-8"));
}

#[test]
fn a_file_is_the_same_in_whatever_slices_it_is_read() {
    let text = (0..100).map(|number| format!("user{number} certificate # {number}\n")).collect::<Vec<_>>().concat();
    let whole = Users::parse(&*text).expect("users");
    for slice in [1, 2, 7, 99, 100, 101] {
        let mut turns = 0;
        let mut loader = Loader::new(text.clone());
        let users = loop {
            turns += 1;
            loader = match loader.advance(slice) {
                Progress::More(loader) => loader,
                Progress::Ready(users) => break users,
                Progress::Failed(error) => panic!("{error}"),
            };
        };
        assert_eq!(turns, 100 / slice + 1, "{slice}");
        assert_eq!(users.len(), 100);
        for user in whole.iter() {
            assert_eq!(users.find(user.name()), whole.find(user.name()));
        }
    }
}

#[test]
fn a_stranger_has_a_salt_that_stays_and_the_iterations_and_length_of_a_user() {
    let text =
        format!("ada {}\nbob {}\neve certificate\n", verifier("x", 4096, &[1; 12]), verifier("x", 5000, &[2; 40]));
    let users = users(&text);
    let mut shapes = HashSet::new();
    for number in 0..100 {
        let name = format!("stranger {number}");
        let (key, mock) = users.verifier_or_mock(&name);
        assert_eq!(key, None);
        assert_eq!(self::users(&text).verifier_or_mock(&name).1, mock, "it stays when the file is read again");
        shapes.insert((mock.iterations().get(), mock.salt().len()));
        assert_ne!(mock, users.verifier_or_mock(&format!("stranger {}", number + 1)).1);
    }
    assert_eq!(shapes, HashSet::from([(4096, 12), (5000, 40)]));
    assert!(users.verifier_or_mock("eve").0.is_none(), "who has no password is no different");
    assert_eq!(users.verifier_or_mock("ada").0, users.find("ada"));
    let other = Users::parse(format!("%secret {}\n{text}", "AAAA".repeat(8))).expect("users");
    assert_ne!(other.verifier_or_mock("stranger").1.salt(), users.verifier_or_mock("stranger").1.salt());
}

#[test]
fn what_strangers_are_told_hardly_ever_changes_when_a_user_is_added() {
    let line = |number: u32| format!("user{number} {}\n", PENCIL.replace("4096", &(4096 + number).to_string()));
    let text: String = (0..50).map(line).collect();
    let (before, after) = (users(&text), users(&format!("{text}{}", line(50))));
    let told = |users: &Users, number: u32| users.verifier_or_mock(&format!("stranger {number}")).1.iterations();
    let changed = (0..1000).filter(|number| told(&before, *number) != told(&after, *number)).count();
    assert!((1..60).contains(&changed), "{changed} of 1000, and one in 51 must");
}

#[test]
fn nobody_is_authenticated_as_a_stranger_or_by_a_strangers_words() {
    let users = users(&format!("ada {PENCIL}\nbot token:{}\n", digest(1)));
    for (name, password, comes_in) in
        [("ada", "pencil", true), ("ada", "x", false), ("bot", "", false), ("eve", "pencil", false)]
    {
        let mut client = ClientExchange::new(name, password, Binding::None, [1; NONCE_BYTES]);
        let lookup = |name: &str| users.verifier_or_mock(name).1;
        let first = client.first();
        let (server, challenge) =
            ServerExchange::begin(first.as_bytes(), false, Binding::None, lookup, [2; NONCE_BYTES]).expect("begun");
        let proof = client.answer(challenge.as_bytes()).expect("answered");
        assert_eq!(server.finish(proof.as_bytes()).is_ok(), comes_in, "{name}");
    }
}

#[test]
fn words_are_found_where_the_shell_finds_them() {
    for line in [
        "",
        "  ",
        "a",
        " a  b ",
        "a#b # c",
        "# a",
        "'a b' c",
        "\"a # b\"c d",
        r"a\ b c\#",
        r#""a\"b" c"#,
        "a'#'b #",
        "'a\\' b",
        "\t'x y'\tz\t",
        "é 'ü ö' # ß",
    ] {
        let found: Vec<String> = word_places(line)
            .into_iter()
            .map(|place| {
                let mut words = words(&line[place]).expect("a word");
                assert_eq!(words.len(), 1, "{line}");
                words.remove(0)
            })
            .collect();
        assert_eq!(Ok(found), words(line), "{line}");
    }
}

#[test]
fn a_change_leaves_every_other_byte_as_it_is() {
    let verifier = verifier("new", 4096, b"0123456789abcdef");
    let digest = digest(5);
    let change = |text: &str, user: &str, change: &Change<'_>| changed(text, user, change, &[0; SECRET_BYTES]);
    let password = Change::Password(&verifier);
    let token = Change::Token(digest);
    let only = Change::OnlyToken(digest);
    let [one, two] = [1, 2].map(self::digest);
    for (before, user, what, after) in [
        (
            format!("{SECRET}ada  {PENCIL}\t# x\nb certificate"),
            "ada",
            &password,
            format!("{SECRET}ada  {verifier}\t# x\nb certificate"),
        ),
        (format!("ada '{PENCIL}'\r\n{SECRET}"), "ada", &password, format!("ada {verifier}\r\n{SECRET}")),
        (
            format!("{SECRET}ada certificate # {PENCIL}\n"),
            "ada",
            &password,
            format!("{SECRET}ada certificate {verifier} # {PENCIL}\n"),
        ),
        (format!("{SECRET}b certificate"), "ada", &password, format!("{SECRET}b certificate\nada {verifier}\n")),
        (
            format!("{SECRET}b certificate\r\n"),
            "A B",
            &password,
            format!("{SECRET}b certificate\r\n'A B' {verifier}\r\n"),
        ),
        (
            format!("{SECRET}'ada'\tcertificate\n\n"),
            "ada",
            &token,
            format!("{SECRET}'ada'\tcertificate token:{digest}\n\n"),
        ),
        (
            format!(
                "{SECRET}ada 'token:{one}'\tto='a',b  token:{two}  all=no # token:{two}\r\nb token:{}",
                self::digest(3)
            ),
            "ada",
            &only,
            format!("{SECRET}ada token:{digest}\tto='a',b  all=no # token:{two}\r\nb token:{}", self::digest(3)),
        ),
        (
            format!("ada {PENCIL} token:{one} \"token:\"{two}\n{SECRET}"),
            "ada",
            &only,
            format!("ada {PENCIL} token:{digest}\n{SECRET}"),
        ),
        (
            format!("{SECRET}ada certificate # token:{digest}\n"),
            "ada",
            &only,
            format!("{SECRET}ada certificate token:{digest} # token:{digest}\n"),
        ),
        (
            format!("{SECRET}token:x token:{one} token:{digest}"),
            "token:x",
            &only,
            format!("{SECRET}token:x token:{digest}"),
        ),
        (
            format!("{SECRET}SCRAM-SHA-256$ certificate"),
            "SCRAM-SHA-256$",
            &password,
            format!("{SECRET}SCRAM-SHA-256$ certificate {verifier}"),
        ),
        (format!("# 1\n{SECRET}ada certificate # 2\n# 3"), "ada", &Change::Remove, format!("# 1\n{SECRET}# 3")),
        (
            format!("\u{feff}ada certificate\n{SECRET}"),
            "ada",
            &token,
            format!("\u{feff}ada certificate token:{digest}\n{SECRET}"),
        ),
    ] {
        assert_eq!(change(&before, user, what).as_deref(), Ok(&*after), "{before}");
    }
    let new = change("", "ada", &token).expect("a file");
    assert_eq!(new, format!("%secret {}=\nada token:{digest}\n", "A".repeat(43)));
    for what in [&Change::Remove, &only] {
        assert_eq!(change("", "ada", what), Err(EditError::NoSuchUser));
    }
    assert!(matches!(change("", "%x", &password), Err(EditError::Name(_))));
}

#[test]
fn the_only_token_opens_and_none_that_there_were() {
    let [one, two, others, new] = [1, 2, 3, 5].map(|number| token_text(&[number; 32]));
    let text = format!("{SECRET}bot token:{} token:{}\nada token:{}\n", digest(1), digest(2), digest(3));
    let after = changed(&text, "bot", &Change::OnlyToken(digest(5)), &[0; SECRET_BYTES]).expect("changed");
    let users = Users::parse(after).expect("users");
    assert_eq!(users.by_token(new.as_bytes()), users.find("bot"));
    assert_eq!(users.by_token(others.as_bytes()), users.find("ada"));
    assert!([one, two].iter().all(|old| users.by_token(old.as_bytes()).is_none()));
    let error = changed(&text, "bot", &Change::OnlyToken(digest(3)), &[0; SECRET_BYTES]).expect_err("it is ada's");
    assert!(error.to_string().contains("a token is there twice"), "{error}");
    // However many there were.
    let full = (10..26).map(|number| format!(" token:{}", digest(number))).collect::<Vec<_>>().concat();
    let after = changed(&format!("ada{full}\n{SECRET}"), "ada", &Change::OnlyToken(digest(5)), &[0; SECRET_BYTES]);
    assert_eq!(after, Ok(format!("ada token:{}\n{SECRET}", digest(5))));
}

#[test]
fn what_a_line_allows_is_told_as_it_is_written_and_no_secret_of_it() {
    let token = digest(1);
    let rights = |text: &str, user: &str| rights_of(text, user).join(" ");
    let text = format!(
        "\u{feff}ada {PENCIL} names='Ada L',ada join=- \"certificate\" token:{token} admin=yes # all=no\r\n\
         {SECRET}bot token:{token}\n'all=no' 'token:'{token} \"SCRAM-SHA-256\"'$'x watch=no"
    );
    assert_eq!(rights(&text, "ada"), "names='Ada L',ada join=- \"certificate\" admin=yes");
    assert_eq!(rights(&text, "all=no"), "watch=no", "a name is no right, whatever it looks like");
    for nobody in ["bot", "eve", "%secret", ""] {
        assert_eq!(rights(&text, nobody), "");
    }
    for right in ["names=a", "join=a", "create=a", "send=a", "to=a", "all=no", "watch=no", "admin=yes", "certificate"] {
        assert_eq!(rights(&format!("eve token:{token} {right}"), "eve"), right);
    }
}

#[test]
fn a_file_that_makes_no_sense_is_not_changed() {
    let token = Change::Token(digest(5));
    let error = changed("# x\neve\n", "ada", &token, &[0; SECRET_BYTES]).expect_err("no sense");
    assert!(matches!(&error, EditError::File(error) if error.line == 2), "{error}");
    let full = (10..26).map(|number| format!(" token:{}", digest(number))).collect::<Vec<_>>().concat();
    let error = changed(&format!("ada{full}\n"), "ada", &token, &[0; SECRET_BYTES]).expect_err("too many");
    assert!(matches!(&error, EditError::File(error) if error.what.contains("more than 16")), "{error}");
}
