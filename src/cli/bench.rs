//! `switchboard bench`: puts a relay under load and says what it did.
//!
//! A subcommand for each scenario, made from what the scenario says of itself, so that its help shows only
//! what it has, with its own defaults.
//!
//! Invariant: only an explicit ADDR is a target. The environment's SWITCHBOARD_ADDR names the relay that
//! somebody works with, which is the last that should be put under load by an oversight.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bytesize::ByteSize;
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, FromArgMatches, value_parser};

use super::login::secret_line;
use super::{Trouble, link, output, parse_address, parse_name, parse_seconds, passing_name, signals};
use crate::bench::page;
use crate::bench::report::{Report, wants_colour};
use crate::bench::{
    self, IN_FLIGHT_DEFAULT, Keys, Login, Parameter, Plan, Progress, Scenario, Stop, Switchboard, Target, Tls, Wishes,
};
use crate::client::{Address, Client, Credentials, Event, Options, Session};
use crate::wire::PAYLOAD_BYTES_CEILING;

/// How long a relay may take to close the connection that was only made to look at it.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

const ABOUT: &str = "Put a relay under load, and account for every frame";

const LONG_ABOUT: &str = "\
Put a relay under load, and account for every frame.

Without ADDR a relay is started for the purpose, on a core of its own where there are two, and ended \
afterwards. With ADDR the relay there is put under load: be sure that you may. Only an ADDR counts, the \
environment's SWITCHBOARD_ADDR does not.

It succeeds if every frame was delivered, refused or counted, once, in order, and intact. Ctrl-C ends it early, \
with the figures so far.";

/// What to do, to whom, and where to say so.
#[derive(Debug)]
pub(super) struct Arguments {
    plan: Result<Plan, String>,
    addr: Option<Address>,
    encryption: Encryption,
    user: Option<String>,
    /// The file with its password, or else its token.
    secret: Option<Secret>,
    json: bool,
    html: Option<PathBuf>,
    quiet: bool,
}

/// Where it stands what a user is proved with.
#[derive(Debug)]
enum Secret {
    Password(PathBuf),
    Token(PathBuf),
}

impl Arguments {
    /// Who all clients are; once for the load, and once for whoever looks at the relay before.
    fn login(&self) -> Result<Option<(Login, Credentials)>, Trouble> {
        let Some((user, secret)) = self.user.as_ref().zip(self.secret.as_ref()) else { return Ok(None) };
        if self.addr.is_none() {
            let line = "--user is for a relay at an address: one that is started for the purpose asks nobody who it is";
            return Err(Trouble::Usage(line.to_owned()));
        }
        Ok(Some(match secret {
            Secret::Password(path) => {
                let password = secret_line(path)?;
                let credentials = Credentials::Password { user: user.clone(), password: password.as_str().into() };
                (Login::with_password(user, password), credentials)
            }
            Secret::Token(path) => {
                let token = secret_line(path)?;
                let credentials = Credentials::Token(token.as_str().into());
                (Login::with_token(user, token), credentials)
            }
        }))
    }
}

/// Whether and how clients speak TLS.
#[derive(Debug)]
struct Encryption {
    /// With a relay that is started for the purpose.
    own: bool,
    ca: Option<PathBuf>,
    resume: bool,
}

impl Encryption {
    /// Keeps the sessions of all clients, if they are to be taken up again.
    fn with_sessions(&self, tls: Tls, plan: &Plan) -> Tls {
        if self.resume { tls.resuming(plan.work.clients() as usize) } else { tls }
    }

    /// What has no meaning for this address.
    fn check(&self, addr: Option<&Address>) -> Result<(), String> {
        let is_tls = matches!(addr, Some(Address::Tls { .. }));
        match addr {
            Some(address) if self.own && !is_tls => Err(match address {
                Address::Unix(_) => "--tls is not for a Unix socket: leave it out".to_owned(),
                _ => format!(
                    "--tls is for a relay that is started for the purpose: write the address as tls://{address}"
                ),
            }),
            _ if self.ca.is_some() && !is_tls => Err(
                "--ca is for a relay at a tls:// address: the certificate of one that is started for the purpose is \
                     known"
                    .to_owned(),
            ),
            _ if self.resume && !is_tls && !self.own => {
                Err("--resume is for TLS: add --tls, or write the address as tls://HOST:PORT".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl clap::Args for Arguments {
    fn augment_args(command: Command) -> Command {
        command
            .about(ABOUT)
            .long_about(LONG_ABOUT)
            .override_usage("switchboard bench <SCENARIO> [OPTIONS] [ADDR]")
            .after_help("`switchboard bench SCENARIO --help` shows what a scenario can be told, and its defaults.")
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommand_value_name("SCENARIO")
            .subcommand_help_heading("Scenarios")
            .disable_help_subcommand(true)
            .subcommands(Scenario::ALL.map(subcommand))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Arguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let missing = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
        let (name, matches) = matches.subcommand().ok_or_else(missing)?;
        let scenario = Scenario::ALL.into_iter().find(|scenario| scenario.name() == name).ok_or_else(missing)?;
        let count = |id: &str| matches.get_one::<u32>(id).copied();
        let time = |id: &str| matches.get_one::<Duration>(id).copied();
        let wishes = Wishes {
            connections: count(Parameter::Connections.name()),
            rooms: count(Parameter::Rooms.name()),
            stuck: count(Parameter::Stuck.name()),
            size: matches.get_one::<usize>(Parameter::Size.name()).copied(),
            window: count(Parameter::Window.name()),
            rate: matches.get_one::<f64>(Parameter::Rate.name()).copied(),
            time: time(Parameter::Seconds.name()),
            minutes: time(Parameter::Minutes.name()),
            warmup: time(Parameter::Warmup.name()),
            keepalive: time("keepalive"),
            in_flight: count("in-flight"),
        };
        Ok(Self {
            plan: Plan::new(scenario, &wishes),
            addr: matches.get_one::<Address>("addr").cloned(),
            encryption: Encryption {
                own: matches.get_flag("tls"),
                ca: matches.get_one::<PathBuf>("ca").cloned(),
                resume: matches.get_flag("resume"),
            },
            user: matches.get_one::<String>("user").cloned(),
            secret: match (matches.get_one::<PathBuf>("password-file"), matches.get_one::<PathBuf>("token-file")) {
                (Some(path), _) => Some(Secret::Password(path.clone())),
                (None, Some(path)) => Some(Secret::Token(path.clone())),
                (None, None) => None,
            },
            json: matches.get_flag("json"),
            html: matches.get_one::<PathBuf>("html").cloned(),
            quiet: matches.get_flag("quiet"),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A scenario's command: its own numbers, and what all have.
fn subcommand(scenario: Scenario) -> Command {
    let addr = Arg::new("addr").value_name("ADDR").value_parser(parse_address);
    Command::new(scenario.name())
        .about(scenario.about())
        .arg(addr.help("The relay to put under load [default: one that is started for the purpose]"))
        .args(Parameter::ALL.map(|parameter| argument(scenario, parameter)))
        .next_help_heading("Clients")
        .arg(Arg::new("in-flight").long("in-flight").value_name("N").value_parser(parse_count).help(format!(
            "Clients on their way in at once: fewer than the relay's backlog, which drops the rest \
                     [default: {IN_FLIGHT_DEFAULT}]"
        )))
        .arg(
            Arg::new("keepalive")
                .long("keepalive")
                .value_name("SECONDS")
                .value_parser(parse_seconds)
                .help("The silence after which clients ask to be pinged, at least 1 [default: as the relay likes]"),
        )
        .next_help_heading("Who all clients are")
        .arg(
            Arg::new("user")
                .long("user")
                .value_name("NAME")
                .value_parser(parse_name)
                .requires("secret")
                .help("A user of the relay at ADDR, who must be allowed the names that begin with NAME/"),
        )
        .arg(file("password-file").requires("user").help("The user's password is the first line of this file"))
        .arg(file("token-file").requires("user").help("The user's token is the first line of this file"))
        .group(ArgGroup::new("secret").args(["password-file", "token-file"]))
        .next_help_heading("TLS")
        .arg(switch("tls", "Speak TLS with the relay that is started for the purpose, which gets a certificate for it"))
        .arg(
            Arg::new("ca").long("ca").value_name("FILE").value_parser(value_parser!(PathBuf)).help(
                "Certificates (PEM) that vouch for a relay at a tls:// address [default: the system's authorities]",
            ),
        )
        .arg(switch(
            "resume",
            "Take up sessions of clients that were there before, each once; by default every handshake is a whole one",
        ))
        .next_help_heading("Output")
        .arg(switch("json", "Write the report as one JSON object"))
        .arg(
            Arg::new("html")
                .long("html")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Write the report, with plots, as a page of its own as well"),
        )
        .arg(switch("quiet", "Show no progress and no remarks; without a terminal there is no progress anyway"))
}

fn file(name: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf))
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// A number of a scenario. One that it has not is taken as well, so that its refusal can say what there is.
fn argument(scenario: Scenario, parameter: Parameter) -> Arg {
    let argument = Arg::new(parameter.name()).long(parameter.name()).allow_negative_numbers(true);
    let argument = match parameter {
        Parameter::Size => argument.value_name("BYTES").value_parser(parse_size),
        Parameter::Rate => argument.value_name("N").value_parser(parse_rate),
        Parameter::Warmup => argument.value_name("SECONDS").value_parser(parse_pause),
        Parameter::Seconds => argument.value_name("SECONDS").value_parser(parse_seconds),
        Parameter::Minutes => argument.value_name("MINUTES").value_parser(parse_minutes),
        _ => argument.value_name("N").value_parser(parse_count),
    };
    match scenario.offer(parameter) {
        Some(offer) => argument.help(format!("{} [default: {}]", offer.help, offer.default)),
        None => argument.hide(true),
    }
}

fn parse_count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("write a whole number, at most {}", u32::MAX))
}

fn parse_size(text: &str) -> Result<usize, String> {
    let size = ByteSize::from_str(text).map_err(|_| "write a size, as 128, 64KiB or 1MiB".to_owned())?;
    usize::try_from(size.as_u64()).map_err(|_| "it is larger than this machine's memory could be".to_owned())
}

fn parse_rate(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "write a number, as 20000 or 0.5".to_owned())
}

/// A time in seconds that may be none.
fn parse_pause(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "write a number of seconds, as 1 or 0.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "the time must not be negative, and within reason".to_owned())
}

/// A time in minutes, which may have a fraction.
fn parse_minutes(text: &str) -> Result<Duration, String> {
    let minutes: f64 = text.parse().map_err(|_| "write a number of minutes, as 60 or 0.5".to_owned())?;
    let time = Duration::try_from_secs_f64(minutes * 60.0).ok().filter(|time| !time.is_zero());
    time.ok_or_else(|| "the time must be above zero, and within reason".to_owned())
}

pub(super) fn run(arguments: Arguments) -> Result<(), Trouble> {
    let plan = arguments.plan.clone().map_err(Trouble::Usage)?;
    arguments.encryption.check(arguments.addr.as_ref()).map_err(Trouble::Usage)?;
    let login = arguments.login()?;
    if let Some(path) = &arguments.html {
        // Better said now than after the run.
        let opened = OpenOptions::new().create(true).append(true).open(path);
        opened.map_err(|error| cannot_write(path, &error))?;
    }
    bench::check_descriptors(&plan).map_err(Trouble::System)?;
    // Before this thread is tied to a core: whoever waits for signals should not be in the load's way.
    let stop = Stop::default();
    let flag = stop.flag();
    signals::on_interrupt(move || flag.store(true, Ordering::Relaxed))?;

    let mut target = match &arguments.addr {
        Some(address) => given(address, &plan, &arguments.encryption, login.as_ref())?,
        None => own(&plan, &arguments.encryption)?,
    };
    if !arguments.quiet {
        remark(&target);
    }
    let login = login.map(|(login, _)| login);
    let mut progress = if arguments.quiet { Progress::new(false) } else { Progress::auto() };
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let mut report = if plan.work.scenario == Scenario::Soak {
        bench::soak(&plan.work, plan.keepalive, login, &mut target, &mut progress, &stop)
    } else {
        let dialect = Switchboard::new(plan.work.size, plan.keepalive).with_login(login);
        let dialect = if plan.work.scenario == Scenario::File { dialect.of_files() } else { dialect };
        bench::run(&plan.work, dialect, &mut target, &mut progress, &stop)
    };
    (report.date, report.command) = (date, command());
    if !report.failures.is_empty() && !stop.is_asked() {
        for line in target.log() {
            output::complain(&format!("relay: {}", output::one_line(&line)));
        }
    }
    tell(&report, arguments.json)?;
    if let Some(path) = &arguments.html {
        write_page(&report, path).map_err(|error| cannot_write(path, &error))?;
    }
    match report.failures.as_slice() {
        [] => Ok(()),
        failures => Err(Trouble::System(format!("{}: {}", plan.work.scenario.name(), failures.join("; ")))),
    }
}

/// The command as it was given, so that it can be given again.
fn command() -> String {
    let words: Vec<_> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let all = std::iter::once("switchboard").chain(words.iter().map(String::as_str));
    // Only a word with a zero byte cannot be quoted, and no argument has one.
    shlex::try_join(all).unwrap_or_default()
}

/// A relay that is started for the purpose.
fn own(plan: &Plan, encryption: &Encryption) -> Result<Target, Trouble> {
    let executable =
        std::env::current_exe().map_err(|error| Trouble::System(format!("cannot find this program: {error}")))?;
    // The relay has read them, and their files go, before anything is measured.
    let keys = if encryption.own { Some(Keys::make().map_err(Trouble::System)?) } else { None };
    let target = match &keys {
        Some(keys) => Tls::to_keys(keys).and_then(|tls| {
            Target::start_tls(&executable, &plan.relay_arguments(), keys, encryption.with_sessions(tls, plan))
        }),
        None => Target::start(&executable, &plan.relay_arguments()),
    };
    let mut target = target.map_err(Trouble::System)?;
    if let Some(most) = target.connections_max() {
        bench::check_capacity(plan, most).map_err(Trouble::System)?;
    }
    let address = parse_address(&target.address()).map_err(Trouble::System)?;
    let ca = keys.as_ref().map(Keys::certificate_file);
    target.set_software(look_at(&address, &passing(ca))?.agent);
    Ok(target)
}

/// The relay at an address: whether it is one, and takes what the plan has for it.
fn given(
    address: &Address,
    plan: &Plan,
    encryption: &Encryption,
    login: Option<&(Login, Credentials)>,
) -> Result<Target, Trouble> {
    let mut options = passing(encryption.ca.clone());
    if let Some((login, credentials)) = login {
        options.name = format!("{}{}", login.prefix(), options.name);
        options.credentials = Some(credentials.clone());
    }
    let session = look_at(address, &options)?;
    let (size, most) = (plan.work.size, session.payload_bytes_max);
    if size > most as usize {
        return Err(Trouble::System(format!(
            "the relay at {address} takes payloads of at most {most} bytes: give --size {most} or less, or start it \
             with --payload-max {size}"
        )));
    }
    let mut target = Target::at(address).map_err(Trouble::System)?;
    if let Address::Tls { host, .. } = address {
        let tls = Tls::to_host(host, encryption.ca.as_deref()).map_err(Trouble::System)?;
        target = target.over(encryption.with_sessions(tls, plan));
    }
    bench::check_ports(plan, target.endpoint()).map_err(Trouble::System)?;
    target.set_software(session.agent);
    Ok(target)
}

/// A client that only looks at a relay.
fn passing(ca: Option<PathBuf>) -> Options {
    let mut options = Options { payload_bytes_max: PAYLOAD_BYTES_CEILING, ..Options::named(passing_name("bench")) };
    options.tls.ca = ca;
    options
}

/// Connects a client and has it leave again: what the relay said in its WELCOME.
fn look_at(address: &Address, options: &Options) -> Result<Session, Trouble> {
    let client = Client::connect(address, options).map_err(|error| link::cannot_connect(address, options, &error))?;
    let session = client.session().clone();
    let (sender, mut receiver) = client.split();
    // Its end should not fall into what is measured.
    if sender.goodbye().is_ok() {
        let end = Instant::now() + GOODBYE_TIMEOUT;
        while let Some(event) = receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if matches!(event, Event::Closed(_)) {
                break;
            }
        }
    }
    Ok(session)
}

/// Says what the figures cannot show.
fn remark(target: &Target) {
    if target.is_own() && target.cores().is_none() {
        output::complain("switchboard: relay and load share their cores: there are not two to keep them apart");
    }
    if target.process().is_none() {
        output::complain("switchboard: the relay's process is not to be seen from here: no CPU or memory figures");
    }
}

/// Writes the report to standard output.
fn tell(report: &Report, json: bool) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    if json {
        report.write_json(&mut out)?;
    } else {
        report.write_text(&mut out, wants_colour())?;
    }
    Ok(out.flush()?)
}

fn cannot_write(path: &Path, error: &io::Error) -> Trouble {
    Trouble::System(format!("cannot write --html {}: {error}", path.display()))
}

fn write_page(report: &Report, path: &Path) -> io::Result<()> {
    let mut page = Vec::new();
    page::report(report, &mut page)?;
    fs::write(path, page)
}
