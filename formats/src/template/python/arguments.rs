//! The arguments of filters, functions and methods.
//!
//! Purpose: binds values and named values to parameters as a call in Python does.
//! Invariant: an argument that no parameter takes is an error.
//! Must not know: what is called.

use minijinja::Value;
use minijinja::value::{Kwargs, from_args};

use super::{Result, error};

/// What a call was given.
pub(in crate::template) struct Arguments<'c> {
    /// What is called, for messages.
    pub(in crate::template) name: &'c str,
    /// The values in order.
    pub(in crate::template) values: &'c [Value],
    named: Kwargs,
}

impl<'c> Arguments<'c> {
    /// From what minijinja hands over.
    pub(in crate::template) fn new(name: &'c str, values: &'c [Value], named: Kwargs) -> Self {
        Self { name, values, named }
    }

    /// From values whose last may be the named ones.
    pub(in crate::template) fn split(name: &'c str, given: &'c [Value]) -> Result<Self> {
        let (values, named): (&[Value], Kwargs) = from_args(given)?;
        Ok(Self { name, values, named })
    }

    /// Whether there are named values.
    pub(in crate::template) fn has_named(&self) -> bool {
        self.named.args().next().is_some()
    }

    /// The named values.
    pub(in crate::template) fn named(&self) -> Result<Vec<(Value, Value)>> {
        let name = |name: &str| Ok((Value::from(name), self.named.get::<&Value>(name)?.clone()));
        self.named.args().map(name).collect()
    }

    /// The named values once more, for another call.
    pub(in crate::template) fn named_again(&self) -> Result<Kwargs> {
        let named = self.named()?;
        Ok(named
            .iter()
            .filter_map(|(name, value)| Some((name.as_str()?.to_owned(), value.clone())))
            .collect())
    }

    /// A named value.
    pub(in crate::template) fn get(&self, name: &str) -> Option<Value> {
        match self.named.has(name) {
            true => self.named.get::<&Value>(name).ok().cloned(),
            false => None,
        }
    }

    /// The values of parameters in order; nothing for those that were not given.
    pub(in crate::template) fn bind<const N: usize>(
        &self,
        parameters: [&str; N],
    ) -> Result<[Option<Value>; N]> {
        if self.values.len() > N {
            let what = format!("`{}` takes at most {N} arguments, not {}", self.name, self.values.len());
            return Err(error(what));
        }
        for name in self.named.args() {
            match parameters.iter().position(|parameter| *parameter == name) {
                None => return Err(error(format!("`{}` has no argument `{name}`", self.name))),
                Some(index) if index < self.values.len() => {
                    return Err(error(format!("`{}` is given its argument `{name}` twice", self.name)));
                }
                Some(_) => {}
            }
        }
        Ok(std::array::from_fn(|index| {
            self.values.get(index).cloned().or_else(|| self.get(parameters[index]))
        }))
    }

    /// Like `bind`, for what takes no names.
    pub(in crate::template) fn bind_values<const N: usize>(&self) -> Result<[Option<Value>; N]> {
        match self.has_named() {
            true => Err(error(format!("`{}` takes no named arguments", self.name))),
            false => self.bind([""; N]),
        }
    }

    /// An error that an argument is missing.
    pub(in crate::template) fn missing(&self, name: &str) -> minijinja::Error {
        error(format!("`{}` misses its argument `{name}`", self.name))
    }
}

/// `None` counts as not given.
pub(in crate::template) fn some(value: &Option<Value>) -> Option<&Value> {
    value.as_ref().filter(|value| !value.is_none())
}
