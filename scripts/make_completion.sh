#!/bin/sh
# make_completion.sh bash|zsh|fish PROGRAM: a shell's completion of a program's subcommands, options and values, made
# of what its --help says. An option's line is indented by eight blanks at most and begins with "-" or "TEXT, or -";
# one blank before an option's value, two before what it means; a value is a list of words (a|b|c), a path (FILE, DIR,
# BUNDLE, OUT), or any other.
set -eu
shell=$1 path=$2
name=$(basename "$path")

# Lines "command<TAB>word<TAB>meaning" and "option<TAB>command<TAB>word<TAB>value<TAB>meaning"; the program's own
# options are of no command.
commands=$("$path" --help | sed -n 's/^  \([a-z][a-z-]*\)  *\([^ ].*\)/command\t\1\t\2/p')
[ -n "$commands" ] || { echo "$0: $path --help lists no commands" >&2; exit 1; }
describe() {
  printf '%s\n' "$commands"
  printf 'option\t\t%s\t\t%s\n' --help 'what there is' --version 'version, commit, formats'
  printf '%s\n' "$commands" | while read -r _ command _; do
    "$path" "$command" --help </dev/null | awk -v command="$command" '
      !/^ ? ? ? ? ? ? ? ?([A-Z]+, or )?-/ { next }
      {
        rest = $0
        sub(/^ +([A-Z]+, or )?/, "", rest)
        n = 0
        while (match(rest, /^\[?--?[A-Za-z][A-Za-z0-9-]*/)) {
          words[++n] = substr(rest, 1, RLENGTH)
          sub(/^\[/, "", words[n])
          rest = substr(rest, RLENGTH + 1)
          values[n] = ""
          if (match(rest, /^[ =]("[^"]*"|[^ "[-][^ ]*)/)) {
            values[n] = substr(rest, 2, RLENGTH - 1)
            rest = substr(rest, RLENGTH + 1)
            sub(/,$/, "", values[n])
          }
          if (!match(rest, /^(\]|,| )+\[?-/))
            break
          sub(/^(\]|,| )+/, "", rest)
        }
        sub(/^(\]| )+/, "", rest)
        for (i = n; i > 0; i--) { # -n, --tokens N: the value of both
          if (i < n && words[i] ~ /^-.$/ && words[i + 1] ~ /^--/)
            values[i] = values[i + 1]
          lines[i] = "option\t" command "\t" words[i] "\t" values[i] "\t" rest
        }
        for (i = 1; i <= n; i++)
          print lines[i]
        if (/--help/)
          helped = 1
      }
      END { if (!helped) print "option\t" command "\t--help\t\tthis text" }'
  done
}

[ "$shell" != zsh ] || echo "#compdef $name"
echo "# Completion of $name for $shell, made by make_completion.sh of its --help."
describe | awk -F '\t' -v shell="$shell" -v name="$name" '
  function quoted(text) { gsub(/\047/, "\047\\\047\047", text); return "\047" text "\047" }
  function is_path(value) { return value ~ /FILE|DIR|BUNDLE|OUT|PATH/ }
  function listed(value) { gsub(/\|/, " ", value); return value }
  function fish(command, word, value, meaning,    line) {
    line = "complete -c " name " -n " quoted(command ? "__fish_seen_subcommand_from " command : "__fish_use_subcommand")
    line = line (word ~ /^--/ ? " -l " substr(word, 3) : " -s " substr(word, 2))
    if (value)
      line = line (is_path(value) ? " -r -F" : value ~ /\|/ ? " -x -a " quoted(listed(value)) : " -x")
    print line (meaning ? " -d " quoted(meaning) : "")
  }
  function zsh(command, word, value, meaning,    spec) {
    gsub(/\\|\[|\]|:/, "\\\\&", meaning)
    spec = word (value ? (word ~ /^--/ ? "=" : "+") : "") "[" meaning "]"
    if (value)
      spec = spec ":value:" (is_path(value) ? "_files" : value ~ /\|/ ? "(" listed(value) ")" : "")
    specs[command] = specs[command] " \\\n      " quoted(command ? "*" spec : spec)
  }
  function bash(command, word, value) {
    options[command] = options[command] " " word
    if (value)
      cases = cases "  " command ":" word ") " (is_path(value) ? "paths=1" : "words=" quoted(listed(value ~ /\|/ ? value : ""))) " ;;\n"
  }
  $1 == "command" { commands[++n] = $2; means[$2] = $3; all = all (n > 1 ? " " : "") $2; next }
  shell == "fish" { fish($2, $3, $4, $5) }
  shell == "zsh" { zsh($2, $3, $4, $5) }
  shell == "bash" { bash($2, $3, $4) }
  END {
    if (shell == "fish") {
      print "complete -c " name " -n __fish_use_subcommand -f"
      for (i = 1; i <= n; i++)
        print "complete -c " name " -n __fish_use_subcommand -a " commands[i] " -d " quoted(means[commands[i]])
      print "complete -c " name " -n " quoted("__fish_seen_subcommand_from help") " -x -a " quoted(all)
    } else if (shell == "zsh") {
      print "local -a state line commands=("
      for (i = 1; i <= n; i++)
        print "  " quoted(commands[i] ":" means[commands[i]])
      print ")\n_arguments -C " substr(specs[""], 2) " \\\n      \0471:command:->command\047 \047*::argument:->argument\047"
      print "case $state in\ncommand) _describe command commands ;;\nargument)\n  case $words[1] in\n  help) _describe command commands ;;"
      for (i = 1; i <= n; i++)
        if (commands[i] != "help")
          print "  " commands[i] ") _arguments" specs[commands[i]] " \\\n      \047*:file:_files\047 ;;"
      print "  esac ;;\nesac"
    } else {
      print "_" name "() {"
      print "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command= words= paths="
      print "  [ \"$COMP_CWORD\" -lt 2 ] || command=${COMP_WORDS[1]}"
      print "  [ \"$cur\" != = ] || cur="
      print "  [ \"$prev\" != = ] || prev=${COMP_WORDS[COMP_CWORD - 2]}"
      print "  case $command:$prev in\n" cases "  *)\n    case $command:$cur in"
      print "    :-*) words=" quoted(substr(options[""], 2)) " ;;\n    :* | help:*) words=" quoted(all) " ;;"
      for (i = 1; i <= n; i++)
        if (commands[i] != "help")
          print "    " commands[i] ":-*) words=" quoted(substr(options[commands[i]], 2)) " ;;"
      print "    *) paths=1 ;;\n    esac ;;\n  esac"
      print "  if [ -n \"$paths\" ]; then\n    compopt -o filenames 2>/dev/null\n    mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")"
      print "  else\n    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n  fi\n}"
      print "complete -F _" name " " name
    }
  }'
