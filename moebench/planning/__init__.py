"""From a suite to what will run: sizes solved, budgets turned into steps, jobs named, estimates made."""
