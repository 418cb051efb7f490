// SPDX-License-Identifier: Apache-2.0
// completion: a bash function made from the table of verbs.
#include "runtime/cmd/command.h"

namespace runtime::cmd {

base::ResultX<int> completion(const Globals&, const Args&) {
  // Flags and their values are asked of the program whenever they are wanted, so nothing here can be out of date.
  std::string verbs;
  for (auto& c : commands()) verbs += (verbs.empty() ? "" : " ") + std::string(c.name);
  std::string out =
      "# bash completion for caisson: source <(caisson completion)\n"
      "_caisson_help() { \"${COMP_WORDS[0]}\" $1 --help 2>/dev/null; }\n"
      "_caisson() {\n"
      "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= w root=() i taking values\n"
      "  taking=\" $(_caisson_help | sed -nE 's/^  (-.,)?(--[a-z-]+) (TEXT|INT).*/\\2/p' | tr '\\n' ' ')\"\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    w=${COMP_WORDS[i]}\n"
      "    [[ $w == --root ]] && root=(--root \"${COMP_WORDS[i+1]}\")\n"
      "    if [[ $taking == *\" $w \"* ]]; then ((i++)); continue; fi\n"
      "    [[ $w == -* ]] || { verb=$w; break; }\n"
      "  done\n"
      "  values=$(_caisson_help \"$verb\" | sed -nE \"s/^  (.*,)?$prev TEXT:\\{([^}]*)\\}.*/\\2/p\" | tr ',' ' ')\n"
      "  if [[ $prev == -* && -n $values ]]; then\n"
      "    COMPREPLY=($(compgen -W \"$values\" -- \"$cur\"))\n"
      "  elif [[ $cur == -* ]]; then\n"
      "    COMPREPLY=($(compgen -W \"$(_caisson_help \"$verb\" | sed -nE 's/^  (-.,)?(--[a-z-]+).*/\\2/p')\" -- \"$cur\"))\n"
      "  elif [[ -z $verb && $taking != *\" $prev \"* ]]; then\n"
      "    COMPREPLY=($(compgen -W '" + verbs + "' -- \"$cur\"))\n"
      "  else\n"
      "    case $verb in\n"
      "      start|exec|state|kill|delete|ps|pause|resume|update|events)\n"
      "        COMPREPLY=($(compgen -W \"$(\"${COMP_WORDS[0]}\" \"${root[@]}\" list -q 2>/dev/null)\" -- \"$cur\"));;\n"
      "      *) COMPREPLY=($(compgen -f -- \"$cur\"));;\n"
      "    esac\n"
      "  fi\n"
      "}\n"
      "complete -F _caisson caisson\n";
  fwrite(out.data(), 1, out.size(), stdout);
  return 0;
}

}  // namespace runtime::cmd
