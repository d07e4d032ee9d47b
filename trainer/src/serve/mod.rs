//! The page with a model, for browsers on this machine.

mod page;
mod server;
mod site;

pub use page::Page;
pub use server::Server;
pub use site::Site;
