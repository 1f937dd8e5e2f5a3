//! Lines of text in columns as wide as what stands in them.

/// A table: the first columns are aligned to the left, since they hold names, the others to the right.
pub struct Table {
    rows: Vec<Vec<String>>,
    /// Columns from the left that hold names.
    names: usize,
}

impl Table {
    /// A table with those headings, of which the first `names` are above names.
    pub fn new(names: usize, headings: &[&str]) -> Table {
        Table {
            rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()],
            names,
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }

    /// Returns the lines, that of the headings first, without their ends. Two spaces are between columns.
    pub fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell: &String| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate();
            let cells = cells.map(|(at, (cell, &width))| match at < self.names {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            line.trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}
