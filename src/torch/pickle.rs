//! The stack machine of pickles, with the instructions that PyTorch's files use and no others. It calls nothing: what a pickle
//! says to call is one of the names of `names.rs`, each of which stands for a kind of object that is made here.
//!
//! Objects lie in one list and refer to each other by number, as Python's do by reference: taking one from the memo copies
//! nothing, and nothing here follows references, so that neither depth nor cycles cost anything.

use super::names::{Global, opcode};
use super::tensor::{Dtype, View};
use std::collections::HashMap;

/// Longest pickle, the tensors' bytes not counted; that of a network of a thousand tensors has a tenth of a megabyte.
const LONGEST: usize = 64 << 20;
/// Marks that may be open at once.
const MOST_MARKS: usize = 1000;
/// Longest name of a module, or of what is in one.
const LONGEST_NAME: usize = 200;

/// What a pickle refused says at its end.
const INSTEAD: &str = "nothing was executed; save the state_dict alone: torch.save(model.state_dict(), path)";

/// Number of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(u32);

const NONE: Id = Id(0);
const TRUE: Id = Id(1);
const FALSE: Id = Id(2);
const EMPTY_TUPLE: Id = Id(3);

/// What a pickle describes.
#[derive(Debug)]
pub(super) enum Object<'a> {
    None,
    Bool(bool),
    Whole(i64),
    /// A number of more than 64 bits, or a fraction: there are such in files, but nothing asks what they are.
    Number,
    Text(&'a str),
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    Dictionary(Vec<(Id, Id)>),
    Global(Global),
    /// By its number in [`Objects::storages`].
    Storage(usize),
    Tensor(Box<View>),
}

/// A storage that a pickle names.
#[derive(Debug)]
pub(super) struct Storage<'a> {
    pub key: &'a str,
    pub dtype: Dtype,
    /// Its length in values, as the pickle has it.
    pub numel: usize,
}

/// All objects of a pickle.
#[derive(Debug)]
pub(super) struct Objects<'a> {
    list: Vec<Object<'a>>,
    pub storages: Vec<Storage<'a>>,
}

impl<'a> Objects<'a> {
    pub fn get(&self, id: Id) -> Option<&Object<'a>> {
        self.list.get(id.0 as usize)
    }

    /// The items of a list.
    pub fn items(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Some(Object::List(items)) => Some(items),
            _ => None,
        }
    }
}

/// A pickle that was run to its end.
#[derive(Debug)]
pub(super) struct Pickled<'a> {
    pub objects: Objects<'a>,
    pub root: Id,
    /// The bytes behind it.
    pub rest: &'a [u8],
}

/// Runs the pickle that `bytes` begin with.
pub(super) fn run(bytes: &[u8]) -> Result<Pickled<'_>, String> {
    let mut machine = Machine {
        rest: bytes,
        objects: Objects {
            list: vec![Object::None, Object::Bool(true), Object::Bool(false), Object::Tuple([].into())],
            storages: Vec::new(),
        },
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        known: HashMap::new(),
    };
    loop {
        let at = bytes.len() - machine.rest.len();
        if at > LONGEST {
            return Err(format!("has a pickle of more than {LONGEST} bytes"));
        }
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => return Ok(Pickled { objects: machine.objects, root, rest: machine.rest }),
            Err(detail) => return Err(format!("{detail} (byte {at} of its pickle)")),
        }
    }
}

struct Machine<'a> {
    rest: &'a [u8],
    objects: Objects<'a>,
    stack: Vec<Id>,
    /// Heights of the stack where marks are.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Storages by key.
    known: HashMap<&'a str, usize>,
}

impl<'a> Machine<'a> {
    /// One instruction; the object where it is the last one.
    fn step(&mut self) -> Result<Option<Id>, String> {
        match self.byte()? {
            // PROTO: newer instructions are refused one by one.
            0x80 => match self.byte()? {
                2..=5 => {}
                other => return Err(format!("has a pickle of protocol {other}; 2 to 5 are known")),
            },
            // STOP
            b'.' => {
                let root = self.pop()?;
                if !self.marks.is_empty() {
                    return Err("ends inside a container".to_owned());
                }
                return Ok(Some(root));
            }
            // MARK
            b'(' => {
                if self.marks.len() >= MOST_MARKS {
                    return Err(format!("has more than {MOST_MARKS} containers open at once"));
                }
                self.marks.push(self.stack.len());
            }
            // NONE, NEWTRUE, NEWFALSE, EMPTY_TUPLE
            b'N' => self.stack.push(NONE),
            0x88 => self.stack.push(TRUE),
            0x89 => self.stack.push(FALSE),
            b')' => self.stack.push(EMPTY_TUPLE),
            // EMPTY_DICT, EMPTY_LIST
            b'}' => self.push(Object::Dictionary(Vec::new()))?,
            b']' => self.push(Object::List(Vec::new()))?,
            // BININT, BININT1, BININT2, LONG1
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Object::Whole(value.into()))?;
            }
            b'K' => {
                let value = self.byte()?;
                self.push(Object::Whole(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Object::Whole(value.into()))?;
            }
            0x8a => {
                let length = self.byte()?;
                let value = long(self.take(length.into())?);
                self.push(value)?;
            }
            // BINFLOAT
            b'G' => {
                self.take(8)?;
                self.push(Object::Number)?;
            }
            // BINUNICODE, SHORT_BINUNICODE
            b'X' => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length as usize)?;
            }
            0x8c => {
                let length = self.byte()?;
                self.text(length.into())?;
            }
            // TUPLE, TUPLE1, TUPLE2, TUPLE3
            b't' => {
                let items = self.pop_mark()?;
                self.push(Object::Tuple(items.into()))?;
            }
            count @ 0x85..=0x87 => {
                let first = self.floor(usize::from(count - 0x84))?;
                let items = self.stack.split_off(first);
                self.push(Object::Tuple(items.into()))?;
            }
            // APPEND, APPENDS
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            // SETITEM, SETITEMS: keys and values alternate from the mark on.
            b's' => {
                let first = self.floor(2)?;
                let items = self.stack.split_off(first);
                self.set(&items)?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set(&items)?;
            }
            // BINPUT, LONG_BINPUT, BINGET, LONG_BINGET
            b'q' => {
                let key = self.byte()?;
                self.put(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.array()?);
                self.put(key)?;
            }
            b'h' => {
                let key = self.byte()?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.array()?);
                self.recall(key)?;
            }
            // GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let global = Global::named(module, name).ok_or_else(|| {
                    format!(
                        "asks for `{module}.{name}`, which is none of the names that tensors need; {INSTEAD}"
                    )
                })?;
                self.push(Object::Global(global))?;
            }
            // REDUCE and NEWOBJ: a name, and a tuple of what it is given.
            b'R' | 0x81 => {
                let (arguments, name) = (self.pop()?, self.pop()?);
                let made = self.make(name, arguments)?;
                self.stack.push(made);
            }
            // BUILD: attributes of a dictionary, which say nothing of tensors (`_metadata`).
            b'b' => {
                self.pop()?;
                if !matches!(self.top()?, Object::Dictionary(_)) {
                    return Err(format!("sets attributes of something that is no dictionary; {INSTEAD}"));
                }
            }
            // BINPERSID
            b'Q' => {
                let reference = self.pop()?;
                let storage = self.storage(reference)?;
                self.push(Object::Storage(storage))?;
            }
            other => {
                let name = opcode(other);
                return Err(format!(
                    "has the instruction 0x{other:02x} ({name}), which PyTorch's files do not need; {INSTEAD}"
                ));
            }
        }
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or("is truncated: its pickle ends early".to_owned())?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| "is truncated".to_owned())
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.array().map(|[byte]| byte)
    }

    /// Text up to the end of a line.
    fn line(&mut self) -> Result<&'a str, String> {
        let head = self.rest.get(..LONGEST_NAME + 1).unwrap_or(self.rest);
        let end = head.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or("has a name without an end in its pickle".to_owned())?;
        let name = self.take(end)?;
        self.take(1)?;
        match std::str::from_utf8(name) {
            Ok(name) if name.chars().all(|c| !c.is_control()) => Ok(name),
            _ => Err("has a name that is no text in its pickle".to_owned()),
        }
    }

    fn text(&mut self, length: usize) -> Result<(), String> {
        let text = std::str::from_utf8(self.take(length)?);
        self.push(Object::Text(text.map_err(|error| format!("has a text that is none: {error}"))?))
    }

    fn push(&mut self, object: Object<'a>) -> Result<(), String> {
        // No pickle is long enough for more.
        let id = u32::try_from(self.objects.list.len()).map_err(|error| error.to_string())?;
        self.objects.list.push(object);
        self.stack.push(Id(id));
        Ok(())
    }

    /// The height of the stack below its topmost `count` objects, which must lie above the last mark.
    fn floor(&self, count: usize) -> Result<usize, String> {
        let mark = self.marks.last().copied().unwrap_or(0);
        let floor = self.stack.len().checked_sub(count).filter(|floor| *floor >= mark);
        floor.ok_or_else(|| "takes more from its pickle's stack than is there".to_owned())
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.floor(1)?;
        self.stack.pop().ok_or_else(|| "has an empty stack".to_owned())
    }

    /// Everything above the last mark.
    fn pop_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("ends a container that was not begun".to_owned())?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&mut self) -> Result<&mut Object<'a>, String> {
        self.floor(1)?;
        let top = self.stack.last().and_then(|id| self.objects.list.get_mut(id.0 as usize));
        top.ok_or_else(|| "has an empty stack".to_owned())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), String> {
        match self.top()? {
            Object::List(list) => list.extend(items),
            _ => return Err("appends to something that is no list".to_owned()),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<(), String> {
        let pairs = items.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err("has a key without a value".to_owned());
        }
        match self.top()? {
            Object::Dictionary(entries) => entries.extend(pairs.filter_map(|pair| match pair {
                [key, value] => Some((*key, *value)),
                _ => None,
            })),
            _ => return Err(format!("sets items of something that is no dictionary; {INSTEAD}")),
        }
        Ok(())
    }

    fn put(&mut self, key: u32) -> Result<(), String> {
        let top = self.floor(1).map(|floor| self.stack.get(floor).copied())?;
        self.memo.extend(top.map(|top| (key, top)));
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), String> {
        let found = self.memo.get(&key).ok_or_else(|| format!("recalls number {key}, which was not kept"))?;
        self.stack.push(*found);
        Ok(())
    }

    fn tuple(&self, id: Id) -> Result<&[Id], String> {
        match self.objects.get(id) {
            Some(Object::Tuple(items)) => Ok(items),
            _ => Err("has something else where a tuple must be".to_owned()),
        }
    }

    fn whole(&self, id: Id) -> Result<usize, String> {
        match self.objects.get(id) {
            Some(Object::Whole(value)) => usize::try_from(*value).ok(),
            _ => None,
        }
        .ok_or_else(|| "has something else where a size must be, or a negative one".to_owned())
    }

    /// What a name makes of its arguments.
    fn make(&mut self, name: Id, arguments: Id) -> Result<Id, String> {
        let Some(Object::Global(global)) = self.objects.get(name) else {
            return Err(format!("calls something that is no name; {INSTEAD}"));
        };
        let arguments = self.tuple(arguments)?;
        match (global, arguments) {
            (Global::OrderedDict, []) => {
                self.push(Object::Dictionary(Vec::new()))?;
                self.pop()
            }
            // What it is given is what it is.
            (Global::Size, [sizes]) => self.tuple(*sizes).map(|_| *sizes),
            (Global::Tensor, [storage, offset, size, stride, _, _, more @ ..]) => {
                let plain = match more {
                    [] => true,
                    [metadata] => match self.objects.get(*metadata) {
                        Some(Object::None) => true,
                        Some(Object::Dictionary(entries)) => entries.is_empty(),
                        _ => false,
                    },
                    _ => false,
                };
                if !plain {
                    return Err("has a tensor with bits of its own (conjugated, negated)".to_owned());
                }
                let view = self.view(*storage, *offset, *size, *stride)?;
                self.push(Object::Tensor(Box::new(view)))?;
                self.pop()
            }
            (Global::Parameter, [tensor, _, _]) => match self.objects.get(*tensor) {
                Some(Object::Tensor(_)) => Ok(*tensor),
                _ => Err("has a parameter that is no tensor".to_owned()),
            },
            (global, arguments) => {
                Err(format!("calls {global:?} with {} arguments; {INSTEAD}", arguments.len()))
            }
        }
    }

    fn view(&self, storage: Id, offset: Id, size: Id, stride: Id) -> Result<View, String> {
        let Some(Object::Storage(storage)) = self.objects.get(storage) else {
            return Err("has a tensor without a storage".to_owned());
        };
        let Some(Storage { dtype, numel, .. }) = self.objects.storages.get(*storage) else {
            return Err("has a tensor without a storage".to_owned());
        };
        let lengths = |id| self.tuple(id)?.iter().map(|id| self.whole(*id)).collect::<Result<Vec<_>, _>>();
        View::new(*storage, (*dtype, *numel), self.whole(offset)?, lengths(size)?, lengths(stride)?)
    }

    /// The number of the storage that a reference names: `('storage', type, key, location, numel)`, in the format before zip
    /// with a sixth part that says whose part it is.
    fn storage(&mut self, reference: Id) -> Result<usize, String> {
        let wrong = || "refers to something that is no storage of a tensor".to_owned();
        let parts = self.tuple(reference)?.iter().map(|id| self.objects.get(*id)).collect::<Option<Vec<_>>>();
        let parts = parts.ok_or_else(wrong)?;
        let [
            Object::Text("storage"),
            Object::Global(Global::Storage(dtype)),
            Object::Text(key),
            location,
            numel,
            view @ ..,
        ] = parts.as_slice()
        else {
            return Err(wrong());
        };
        if !matches!(location, Object::Text(_)) {
            return Err(wrong());
        }
        match view {
            [] | [Object::None] => {}
            _ => {
                return Err(
                    "has storages that are parts of others, as PyTorch before 0.4 wrote them".to_owned()
                );
            }
        }
        let Object::Whole(numel) = numel else { return Err(wrong()) };
        let (dtype, key) = (*dtype, *key);
        let numel = usize::try_from(*numel).map_err(|_| wrong())?;
        if let Some(known) = self.known.get(key) {
            let same = self.objects.storages.get(*known);
            if same.is_some_and(|same| same.dtype == dtype && same.numel == numel) {
                return Ok(*known);
            }
            return Err(format!("has two descriptions of the storage {key:?}"));
        }
        let number = self.objects.storages.len();
        self.objects.storages.push(Storage { key, dtype, numel });
        self.known.insert(key, number);
        Ok(number)
    }
}

/// A whole number of little-endian bytes in two's complement.
fn long<'a>(bytes: &[u8]) -> Object<'a> {
    if bytes.len() > 8 {
        return Object::Number;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let sign = if negative { 0xff } else { 0 };
    let mut wide = [sign; 8];
    wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    Object::Whole(i64::from_le_bytes(wide))
}
