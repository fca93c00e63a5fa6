//! SCRAM with somebody else at the other end: the crate rsasl, and GNU SASL's command where it is there, each of them as
//! the client and as the server of an exchange.

use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroU32;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsasl::callback::{Context, Request, SessionCallback, SessionData};
use rsasl::mechanisms::scram::properties::ScramStoredPassword;
use rsasl::mechanisms::scram::{SCRAM_SHA256, SCRAM_SHA256_PLUS};
use rsasl::mechname::Mechname;
use rsasl::prelude::{
    ChannelBindingCallback, Registry, SASLClient, SASLConfig, SASLServer, Session, SessionError, State, Validation,
};
use rsasl::property::{AuthId, OverrideCBType, Password};
use rsasl::validate::{Validate, ValidationError};
use switchboard::auth::scram::{ClientExchange, ScramError, ServerExchange};
use switchboard::auth::{Binding, Mechanism, Verifier, random};

const SALT: &[u8] = b"0123456789abcdef";
const CHANNEL: [u8; 32] = [7; 32];
/// rsasl does not take the second one by itself.
static THEIRS: &[rsasl::prelude::Mechanism] = &[SCRAM_SHA256, SCRAM_SHA256_PLUS];

fn verifier(password: &str) -> Verifier {
    Verifier::from_password(password, NonZeroU32::new(4096).expect("above 0"), SALT)
}

/// The two keys in a verifier's text, which is their only way out.
fn keys(verifier: &Verifier) -> (Vec<u8>, Vec<u8>) {
    let text = verifier.to_string();
    let (stored, server) = text.rsplit_once('$').and_then(|(_, keys)| keys.split_once(':')).expect("keys");
    (STANDARD.decode(stored).expect("base64"), STANDARD.decode(server).expect("base64"))
}

/// One user, as rsasl is told of it: by the password where it is the client, by the keys where it is the server.
struct TheirUser {
    name: String,
    password: String,
    binds: bool,
}

impl SessionCallback for TheirUser {
    fn callback(&self, _: &SessionData, context: &Context<'_>, request: &mut Request<'_>) -> Result<(), SessionError> {
        request.satisfy::<OverrideCBType>("tls-exporter")?;
        request.satisfy::<AuthId>(&self.name)?;
        request.satisfy::<Password>(self.password.as_bytes())?;
        if request.is::<ScramStoredPassword<'_>>() && context.get_ref::<AuthId>() == Some(&*self.name) {
            let (stored, server) = keys(&verifier(&self.password));
            request.satisfy::<ScramStoredPassword<'_>>(&ScramStoredPassword::new(4096, SALT, &stored, &server))?;
        }
        Ok(())
    }

    fn enable_channel_binding(&self) -> bool {
        self.binds
    }

    /// This is asked only when the proof was right.
    fn validate(
        &self,
        _: &SessionData,
        about: &Context<'_>,
        validate: &mut Validate<'_>,
    ) -> Result<(), ValidationError> {
        let name = about.get_ref::<AuthId>().unwrap_or_default().to_owned();
        validate.with::<Authenticated, _>(|| Ok(name))?;
        Ok(())
    }
}

struct Authenticated;

impl Validation for Authenticated {
    type Value = String;
}

/// What rsasl is told of the channel.
struct Channel([u8; 32]);

impl ChannelBindingCallback for Channel {
    fn get_cb_data(&self, name: &str) -> Option<&[u8]> {
        (name == "tls-exporter").then_some(&self.0)
    }
}

fn their_config(name: &str, password: &str, binds: bool) -> Arc<SASLConfig> {
    let user = TheirUser { name: name.into(), password: password.into(), binds };
    let builder = SASLConfig::builder().with_registry(Registry::with_mechanisms(THEIRS));
    builder.with_callback(user).expect("a configuration")
}

fn step<V: Validation>(
    session: &mut Session<V, Channel>,
    input: Option<&[u8]>,
) -> Result<(State, Vec<u8>), SessionError> {
    let mut output = Vec::new();
    session.step(input, &mut output).map(|state| (state, output))
}

/// Their client against our server: who is authenticated, in the eyes of both.
fn their_client(
    mechanism: Mechanism,
    name: &str,
    password: &str,
    theirs: [u8; 32],
    binding: Binding,
) -> Result<String, ScramError> {
    let plus = mechanism == Mechanism::ScramSha256Plus;
    let config = their_config(name, password, plus);
    let offered = Mechname::parse(mechanism.name().as_bytes()).expect("a mechanism");
    let mut session = SASLClient::with_cb(config, Channel(theirs)).start_suggested(&[offered]).expect("rsasl has it");
    let (_, first) = step(&mut session, None).expect("a first message");
    let nonce = random().expect("randomness");
    let (server, challenge) = ServerExchange::begin(&first, plus, binding, |_| verifier("pencil"), nonce)?;
    let (_, proof) = step(&mut session, Some(challenge.as_bytes())).expect("a proof");
    let (user, signature) = server.finish(&proof)?;
    let (state, _) = step(&mut session, Some(signature.as_bytes())).expect("it believes our signature");
    assert!(state.is_finished());
    Ok(user)
}

/// Our client against their server.
fn their_server(name: &str, password: &str, theirs: [u8; 32], binding: Binding) -> Option<String> {
    let mut client = ClientExchange::new(name, password, binding, random().expect("randomness"));
    let config = their_config(name, "pencil", true);
    let wanted = Mechname::parse(client.mechanism().name().as_bytes()).expect("a mechanism");
    let server = SASLServer::<Authenticated, _>::with_cb(config, Channel(theirs));
    let mut session = server.start_suggested(wanted).expect("rsasl has it");
    let (_, challenge) = step(&mut session, Some(client.first().as_bytes())).expect("a challenge");
    let proof = client.answer(&challenge).expect("a proof");
    let (_, signature) = step(&mut session, Some(proof.as_bytes())).expect("an answer");
    let user = session.validation();
    assert_eq!(client.verify(&signature).is_ok(), user.is_some(), "both ends say the same");
    user
}

#[test]
fn rsasl_proves_a_password_to_our_server() {
    for (mechanism, binding) in [
        (Mechanism::ScramSha256, Binding::None),
        (Mechanism::ScramSha256, Binding::Exporter(CHANNEL)),
        (Mechanism::ScramSha256Plus, Binding::Exporter(CHANNEL)),
    ] {
        for name in ["ada", "Ada, = Lovelace"] {
            assert_eq!(their_client(mechanism, name, "pencil", CHANNEL, binding).as_deref(), Ok(name));
            assert_eq!(their_client(mechanism, name, "pencils", CHANNEL, binding), Err(ScramError::Proof));
        }
    }
    let elsewhere = their_client(Mechanism::ScramSha256Plus, "ada", "pencil", [8; 32], Binding::Exporter(CHANNEL));
    assert_eq!(elsewhere, Err(ScramError::Binding));
}

#[test]
fn our_client_proves_a_password_to_rsasl() {
    for binding in [Binding::None, Binding::Exporter(CHANNEL)] {
        assert_eq!(their_server("ada", "pencil", CHANNEL, binding).as_deref(), Some("ada"));
        assert_eq!(their_server("ada", "pencils", CHANNEL, binding), None);
    }
    assert_eq!(their_server("ada", "pencil", [8; 32], Binding::Exporter(CHANNEL)), None);
}

/// GNU SASL's command in the midst of an exchange: a line of base64 for each message, either way.
struct Gsasl {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Gsasl {
    /// Says so where it is not there.
    fn start(arguments: &[&str]) -> Option<Self> {
        let mut command = Command::new("gsasl");
        // Without --application-data it would go on behind the exchange.
        command.args(["--mechanism", "SCRAM-SHA-256", "--no-cb", "--quiet", "--application-data"]).args(arguments);
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut child) = started else {
            println!("skipped: there is no gsasl here (Debian: apt-get install gsasl)");
            return None;
        };
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Some(Self { child, lines })
    }

    /// What it says next, decoded; nothing if it ends instead.
    fn hear(&mut self) -> Option<Vec<u8>> {
        let mut line = "SCRAM-SHA-256".to_owned();
        while line.trim() == "SCRAM-SHA-256" {
            line.clear();
            if self.lines.read_line(&mut line).expect("text") == 0 {
                return None;
            }
        }
        Some(STANDARD.decode(line.trim()).expect("base64"))
    }

    fn say(&mut self, message: &str) {
        // It may have ended, which shows when it is listened to.
        let _ = writeln!(self.child.stdin.as_mut().expect("piped"), "{}", STANDARD.encode(message));
    }

    /// Whether it is content, once it has said that it has no more to say.
    fn ends_well(mut self) -> bool {
        self.say("");
        drop(self.child.stdin.take());
        self.child.wait().expect("it was started").success()
    }
}

impl Drop for Gsasl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn gnu_sasl_proves_a_password_to_our_server() {
    for (password, outcome) in [("pencil", Ok("ada, = x".to_owned())), ("pencils", Err(ScramError::Proof))] {
        let arguments = ["--client", "--authentication-id", "ada, = x", "--password", password];
        let Some(mut theirs) = Gsasl::start(&arguments) else { return };
        let first = theirs.hear().expect("a first message");
        let nonce = random().expect("randomness");
        let begun = ServerExchange::begin(&first, false, Binding::None, |_| verifier("pencil"), nonce);
        let (server, challenge) = begun.expect("a message that we take");
        theirs.say(&challenge);
        let finished = server.finish(&theirs.hear().expect("a proof"));
        assert_eq!(finished.clone().map(|(user, _)| user), outcome);
        if let Ok((_, signature)) = finished {
            theirs.say(&signature);
            assert!(theirs.ends_well(), "it believes our signature");
        }
    }
}

#[test]
fn gnu_sasl_believes_no_other_signature() {
    let arguments = ["--client", "--authentication-id", "ada", "--password", "pencil"];
    let Some(mut theirs) = Gsasl::start(&arguments) else { return };
    let first = theirs.hear().expect("a first message");
    let nonce = random().expect("randomness");
    let begun = ServerExchange::begin(&first, false, Binding::None, |_| verifier("pencil"), nonce);
    theirs.say(&begun.expect("a message that we take").1);
    theirs.hear().expect("a proof");
    theirs.say(&format!("v={}", STANDARD.encode([0; 32])));
    assert!(!theirs.ends_well());
}

#[test]
fn our_client_proves_a_password_to_gnu_sasl() {
    for password in ["pencil", "pencils"] {
        let arguments = ["--server", "--password", "pencil", "--iteration-count", "4096"];
        let Some(mut theirs) = Gsasl::start(&arguments) else { return };
        let mut client = ClientExchange::new("ada", password, Binding::None, random().expect("randomness"));
        assert_eq!(theirs.hear().as_deref(), Some(&b""[..]), "it begins with an empty challenge");
        theirs.say(&client.first());
        let challenge = theirs.hear().expect("a challenge");
        theirs.say(&client.answer(&challenge).expect("a proof"));
        let is_believed = theirs.hear().is_some_and(|signature| client.verify(&signature).is_ok());
        assert_eq!(is_believed, password == "pencil");
    }
}

#[test]
fn gnu_sasl_makes_the_same_verifier_of_a_password() {
    for password in ["pencil", "grüße 日本", "a\u{ad}b"] {
        let mut command = Command::new("gsasl");
        command.args([
            "--mkpasswd",
            "--mechanism",
            "SCRAM-SHA-256",
            "--iteration-count",
            "4096",
            "--password",
            password,
        ]);
        let Ok(output) = command.args(["--salt", &STANDARD.encode(SALT)]).env("LC_ALL", "C.UTF-8").output() else {
            println!("skipped: there is no gsasl here (Debian: apt-get install gsasl)");
            return;
        };
        let line = String::from_utf8(output.stdout).expect("text");
        let mut parts = line.trim().rsplit(',').map(|part| STANDARD.decode(part).expect("base64"));
        let (server, stored) = (parts.next().expect("a key"), parts.next().expect("a key"));
        assert_eq!(keys(&verifier(password)), (stored, server), "{password}");
    }
}
