//! `runner top`: queues, running tasks, schedules, workers and failed tasks in a terminal, read again every few seconds, and keys
//! for the actions of the dashboard.
//!
//! Here are its arguments and its loop. `snapshot` reads, `screen` holds what is shown and decides what a key means, `rows` and `draw` turn that
//! into characters, `act` does what was ordered.

mod act;
mod draw;
mod rows;
mod screen;
mod snapshot;
mod terminal;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use runner_queue::Broker;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::exit::{self, Stopped, Usage};
use super::{CommandContext, print, values};
use crate::config::Environment;
use draw::Palette;
use rows::Pane;
use screen::{Effect, Order, Screen};
use snapshot::{SnapshotReader, TopSnapshot};
use terminal::Terminal;

/// How often it may read: more often would be a load, more seldom would not be watching.
const EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// Width of what `--once` prints, and its height: more rows than fit are cut, as on a screen.
const PRINTED: (u16, u16) = (160, 60);

/// Watch queues, running tasks, schedules, workers and failed tasks, and act on them
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner top\n  \
    runner top --pane schedules --every 5s\n  \
    runner top --once --pane failed\n\n\
    `?` lists the keys. Every action asks first. NO_COLOR=1 leaves colours out.")]
pub struct TopCommand {
    /// The table to begin with
    #[arg(long, value_name = "TABLE", default_value = "queues")]
    pane: Pane,
    /// How often to read, from 1s to 60s
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = values::seconds)]
    every: Duration,
    /// Print the screen once, and end
    #[arg(long)]
    once: bool,
}

impl TopCommand {
    pub async fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        if !EVERY.contains(&self.every) {
            return Err(Usage("--every must be from 1s to 60s".to_owned()).into());
        }
        let broker = context.looked_at().await?;
        let zone = context.settings()?.source.zone.clone();
        let screen = Screen::new(self.pane, zone);
        if self.once {
            return print_once(context, broker, screen).await;
        }
        if !print::is_terminal() {
            let text = "runner top needs a terminal; --once prints what it would show, and runner ls prints lists";
            return Err(Usage(text.to_owned()).into());
        }
        let colours = Environment::of_process()
            .get("NO_COLOR")
            .is_none_or(|text| text.is_empty());
        let watch = Watch {
            context,
            broker,
            screen,
            palette: Palette { colours },
            every: self.every,
        };
        watch.run().await
    }
}

async fn print_once(context: &CommandContext, broker: Arc<dyn Broker>, mut screen: Screen) -> anyhow::Result<()> {
    screen.take(Ok(SnapshotReader::new(broker).look(context).await?));
    let text = terminal::drawn(&screen, Palette { colours: false }, PRINTED)?;
    Ok(print::text(&text)?)
}

/// The program while it watches.
struct Watch<'a> {
    context: &'a CommandContext,
    broker: Arc<dyn Broker>,
    screen: Screen,
    palette: Palette,
    every: Duration,
}

/// Signals that end it: the terminal is given back first. Ctrl-C is a key here; an interrupt is one that another process sends.
struct Signals([(SignalKind, Signal); 4]);

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let of = |kind| Ok::<_, std::io::Error>((kind, signal(kind)?));
        Ok(Self([
            of(SignalKind::terminate())?,
            of(SignalKind::hangup())?,
            of(SignalKind::interrupt())?,
            of(SignalKind::quit())?,
        ]))
    }

    async fn received(&mut self) -> SignalKind {
        let each = self.0.iter_mut().map(|(kind, signal)| {
            Box::pin(async move {
                signal.recv().await;
                *kind
            })
        });
        futures_util::future::select_all(each).await.0
    }
}

/// What came to an end beside the keys.
enum Done {
    Looked(SnapshotReader, anyhow::Result<TopSnapshot>),
    Acted(anyhow::Result<String>),
}

impl<'a> Watch<'a> {
    /// Until a key or a signal ends it. The terminal is as before then, also after an error and a panic.
    async fn run(mut self) -> anyhow::Result<()> {
        let mut signals = Signals::listen()?;
        let mut terminal = Terminal::open()?;
        let mut keys = EventStream::new();
        let mut tick = interval_at(Instant::now() + self.every, self.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let context = self.context;
        let look = |mut looker: SnapshotReader| {
            Box::pin(async move {
                let found = looker.look(context).await;
                Done::Looked(looker, found)
            })
        };
        // One look and one action at a time; keys are taken meanwhile, and a broker that does not answer holds nothing up.
        let mut at_work = FuturesUnordered::<LocalBoxFuture<'_, Done>>::new();
        let mut looker = None;
        let mut is_acting = false;
        let mut look_again = false;
        at_work.push(look(SnapshotReader::new(Arc::clone(&self.broker))));
        loop {
            terminal.draw(&self.screen, self.palette)?;
            let mut wanted = false;
            tokio::select! {
                event = keys.next() => match event {
                    Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => match self.screen.key(key) {
                        Effect::Nothing => {}
                        Effect::Quit => return Ok(()),
                        Effect::Look => wanted = true,
                        Effect::Carry(_) if is_acting => self.screen.complain("the last action has not ended yet"),
                        Effect::Carry(order) => {
                            is_acting = true;
                            self.screen.say("…");
                            at_work.push(self.acting(order));
                        }
                    },
                    Some(Ok(Event::Paste(text))) => self.screen.paste(&text),
                    Some(Ok(_)) => {}
                    // The terminal is gone.
                    Some(Err(_)) | None => return Ok(()),
                },
                Some(done) = at_work.next(), if !at_work.is_empty() => match done {
                    Done::Looked(mut back, found) => {
                        self.screen.take(found.map_err(|error| exit::line(&error)));
                        if look_again {
                            look_again = false;
                            back.forget_schedules();
                            at_work.push(look(back));
                        } else {
                            looker = Some(back);
                        }
                    }
                    Done::Acted(result) => {
                        is_acting = false;
                        match result {
                            Ok(said) => self.screen.say(&said),
                            Err(error) => self.screen.complain(&exit::line(&error)),
                        }
                        wanted = true;
                        // A look that began before the action would show what was before it.
                        look_again = looker.is_none();
                    }
                },
                _ = tick.tick() => if let Some(idle) = looker.take() {
                    at_work.push(look(idle));
                },
                kind = signals.received() => return Err(Stopped(kind.as_raw_value()).into()),
            }
            if wanted && let Some(mut idle) = looker.take() {
                idle.forget_schedules();
                at_work.push(look(idle));
            }
        }
    }

    fn acting(&self, order: Order) -> LocalBoxFuture<'a, Done> {
        let (context, broker) = (self.context, Arc::clone(&self.broker));
        let plan = self.screen.look.as_ref().map(|look| Arc::clone(&look.schedules.plan));
        Box::pin(async move {
            let acted = act::carry_out(context, broker.as_ref(), &plan.unwrap_or_default(), order).await;
            Done::Acted(acted)
        })
    }
}
