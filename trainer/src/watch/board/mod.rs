//! The dashboard: a thread that draws how far a run is on the whole terminal, and listens to keys.
//!
//! Training never waits for it, and nothing that goes wrong with it ends a run: where the terminal refuses or goes away, lines are
//! printed as without one.

mod blocks;
mod screen;
mod state;
mod suspend;

pub use blocks::Samples;
pub use state::State;

use crate::io::{output, session, terminal};
use blocks::Colours;
use ratatui::Terminal;
use ratatui::backend::{Backend as _, CrosstermBackend};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use suspend::{Suspension, take_back};

/// How long keys are waited for before signals are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often the clock is drawn anew.
const REFRESH: Duration = Duration::from_millis(500);

/// What the run and the screen share.
struct Shared {
    state: Mutex<State>,
    save: AtomicBool,
    sample: AtomicBool,
    closing: AtomicBool,
    /// The screen is given back, and nobody draws any more.
    gone: AtomicBool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // What is shown may be half of an update, at worst.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The dashboard of a run.
pub struct Board {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Board {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Where that refuses, and in the background, where taking it would stop the program.
    pub fn open(state: State) -> io::Result<Board> {
        if !Suspension::in_foreground() {
            return Err(io::Error::other("in the background"));
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            save: AtomicBool::new(false),
            sample: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        });
        terminal::enter()?;
        let theirs = Arc::clone(&shared);
        let spawned = std::thread::Builder::new().name("dashboard".into()).spawn(move || {
            let gone = Gone(Arc::clone(&theirs));
            // What a terminal that went away says is of no use to anybody.
            let _ = watch(&theirs);
            drop(gone);
        });
        match spawned {
            Ok(thread) => Ok(Board { shared, thread: Some(thread) }),
            Err(error) => {
                terminal::leave();
                Err(error)
            }
        }
    }

    /// Changes what is shown.
    pub fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state());
    }

    /// Whether a checkpoint was asked for since the last call.
    pub fn asked_to_save(&self) -> bool {
        self.shared.save.swap(false, Ordering::Relaxed)
    }

    /// Whether samples were asked for since the last call.
    pub fn asked_to_sample(&self) -> bool {
        self.shared.sample.swap(false, Ordering::Relaxed)
    }

    /// Whether the terminal refused to go on: nothing is shown any more.
    pub fn is_gone(&self) -> bool {
        self.shared.gone.load(Ordering::Relaxed)
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panicked: the hook has told that.
            let _ = thread.join();
        }
        terminal::leave();
    }
}

/// Gives the screen back when the thread ends, a panic included.
struct Gone(Arc<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Relaxed);
        terminal::leave();
    }
}

/// An empty screen. `Terminal::clear` would ask the terminal where its cursor is, and wait for an answer that not all give.
fn fresh() -> io::Result<Terminal<CrosstermBackend<io::Stdout>>> {
    let mut screen = Terminal::new(CrosstermBackend::new(io::stdout()))?;
    screen.backend_mut().clear()?;
    Ok(screen)
}

/// Draws and listens until the board is closed.
fn watch(shared: &Shared) -> io::Result<()> {
    let mut screen = fresh()?;
    let suspension = Suspension::listen();
    let colours = Colours::of_terminal();
    let (mut away, mut drawn) = (false, None::<Instant>);
    while !shared.closing.load(Ordering::Relaxed) {
        if suspension.asked() {
            suspension.stop();
            away = true;
        }
        away |= suspension.woken();
        if away {
            if !take_back()? {
                std::thread::sleep(TICK);
                continue;
            }
            screen = fresh()?;
            // Of one and the same waking.
            let _ = suspension.woken();
            (away, drawn) = (false, None);
        }
        if event::poll(TICK)? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => match act(shared, key) {
                    Act::Nothing => {}
                    Act::Stop => {
                        suspension.stop();
                        away = true;
                        continue;
                    }
                    Act::Redraw => screen = fresh()?,
                },
                Event::Resize(..) => {}
                _ => continue,
            }
            drawn = None;
        }
        if drawn.is_none_or(|drawn| drawn.elapsed() >= REFRESH) {
            let draw = || {
                screen
                    .draw(|frame| screen::draw(frame, &shared.state(), &output::latest(8), colours))
                    .map(|_| ())
            };
            terminal::drawing(draw).transpose()?;
            drawn = Some(Instant::now());
        }
    }
    Ok(())
}

/// What a key asks of the screen itself.
enum Act {
    Nothing,
    Redraw,
    /// To be suspended.
    Stop,
}

fn act(shared: &Shared, key: KeyEvent) -> Act {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if control => session::ask_to_stop(),
        KeyCode::Char('z') if control => return Act::Stop,
        KeyCode::Char('l') if control => return Act::Redraw,
        KeyCode::Char('s') if !control => {
            shared.save.store(true, Ordering::Relaxed);
            shared.state().note = "saving after this step".into();
        }
        KeyCode::Char('p') if !control => {
            shared.sample.store(true, Ordering::Relaxed);
            shared.state().note = "drawing samples after this step".into();
        }
        // Once: who leans on the key does not lose steps.
        KeyCode::Char('q') if !control && !session::interrupted() => {
            session::ask_to_stop();
            shared.state().note = "stopping after this step, saving first".into();
        }
        _ => {}
    }
    Act::Nothing
}
