"""What the site has beyond Sphinx: names, flags and files from the code, commands that run, formulas as MathML."""
