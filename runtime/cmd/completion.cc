// SPDX-License-Identifier: Apache-2.0
// completion: a bash function made from the table of verbs.
#include "runtime/cmd/command.h"

namespace runtime::cmd {

base::ResultX<int> completion(const Globals&, const Args&) {
  std::string verbs;
  for (auto& c : commands()) verbs += (verbs.empty() ? "" : " ") + std::string(c.name);
  std::string out =
      "# bash completion for caisson: source <(caisson completion)\n"
      "_caisson() {\n"
      "  local cur=${COMP_WORDS[COMP_CWORD]} verb= w root=() i\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    w=${COMP_WORDS[i]}\n"
      "    case $w in\n"
      "      --root) root=(--root \"${COMP_WORDS[i+1]}\"); ((i++));;\n"
      "      --config|--log|--log-format|--debug-log|--overlay|--memory-mode|--patch-calls|--network|--criu|--rootless) ((i++));;\n"
      "      -*) ;;\n"
      "      *) verb=$w; break;;\n"
      "    esac\n"
      "  done\n"
      "  if [[ -z $verb ]]; then\n"
      "    COMPREPLY=($(compgen -W '" + verbs +
      " --config --root --log --log-format --debug --overlay --memory-mode --patch-calls --network --strace --debug-log --help --version' -- "
      "\"$cur\"))\n"
      "  elif [[ $cur == -* ]]; then\n"
      "    COMPREPLY=($(compgen -W \"$(caisson \"$verb\" --help 2>/dev/null | grep -oE -- '--[a-z-]+')\" -- \"$cur\"))\n"
      "  else\n"
      "    case $verb in\n"
      "      start|exec|state|kill|delete|ps|pause|resume|update|events)\n"
      "        COMPREPLY=($(compgen -W \"$(caisson \"${root[@]}\" list -q 2>/dev/null)\" -- \"$cur\"));;\n"
      "      *) COMPREPLY=($(compgen -f -- \"$cur\"));;\n"
      "    esac\n"
      "  fi\n"
      "}\n"
      "complete -F _caisson caisson\n";
  fwrite(out.data(), 1, out.size(), stdout);
  return 0;
}

}  // namespace runtime::cmd
